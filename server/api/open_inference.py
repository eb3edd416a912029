"""The served methods of inference.GRPCInferenceService, as handlers of serialized messages."""

from collections.abc import Callable
from typing import Any, Protocol

from google.protobuf.message import Message

from pixelserve.oip import inference_pb2 as pb

from ..engine.regions import Regions
from ..engine.tensors import FREE, TensorSpec
from ..repository.catalogue import Catalogue
from ..repository.config import PLATFORM
from ..repository.loaded import LoadedVersion
from .call import Call, Handler
from .codec import parse_message
from .infer import ModelInfer
from .log_settings import LogSettings
from .model_config import describe
from .shared_memory import SystemSharedMemory
from .statistics import ModelStatistics, Statistics
from .trace_settings import TraceSettings

SERVICE = "inference.GRPCInferenceService"
# Only served extensions: clients enable features by this list.
_EXTENSIONS = ("classification", "logging", "model_configuration", "model_repository", "statistics", "trace")


class Readiness(Protocol):
    """Tells whether the server is ready."""

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded and the server is not draining."""


class OpenInference:
    """Handles the service's methods. Handlers are thread-safe.

    Args:
        catalogue: the loaded models.
        readiness: the server's readiness.
        version: the server's version.
        statistics: the models' statistics.
        log_settings: answers LogSettings.
        trace_settings: answers TraceSetting.
        regions: the registered shared memory.
        shared_memory: whether clients may register any.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        readiness: Readiness,
        version: str,
        statistics: Statistics,
        log_settings: LogSettings,
        trace_settings: TraceSettings,
        regions: Regions,
        *,
        shared_memory: bool,
    ) -> None:
        self._catalogue = catalogue
        self._readiness = readiness
        self._version = version
        self._statistics = statistics
        self._log_settings = log_settings
        self._trace_settings = trace_settings
        self._regions = regions
        self._extensions = (*_EXTENSIONS, "system_shared_memory") if shared_memory else _EXTENSIONS
        self._shared_memory = SystemSharedMemory(self._regions, enabled=shared_memory)

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        immediate: dict[str, tuple[type[Any], Callable[[Any], Message]]] = {
            "ServerLive": (pb.ServerLiveRequest, self._server_live),
            "ServerReady": (pb.ServerReadyRequest, self._server_ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._model_config),
            "LogSettings": (pb.LogSettingsRequest, self._log_settings),
            "TraceSetting": (pb.TraceSettingRequest, self._trace_settings),
            **self._shared_memory.methods(),
        }
        statistics = ModelStatistics(self._catalogue, self._statistics)
        handlers: dict[str, Handler] = {
            f"/{SERVICE}/{method}": _immediate(message_type, answer)
            for method, (message_type, answer) in immediate.items()
        }
        return handlers | {
            f"/{SERVICE}/ModelStatistics": _listing(pb.ModelStatisticsRequest, statistics),
            f"/{SERVICE}/ModelInfer": ModelInfer(self._catalogue, self._regions),
        }

    def _server_live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=self._readiness.is_ready)

    def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        return pb.ModelReadyResponse(ready=self._catalogue.is_ready(request.name, request.version))

    def _server_metadata(self, _: pb.ServerMetadataRequest) -> Message:
        return pb.ServerMetadataResponse(name="pixelserve", version=self._version, extensions=self._extensions)

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        loaded = self._catalogue.get(request.name, request.version)
        versions = [str(each.version) for each in self._catalogue.ready_versions(loaded.name)]
        return pb.ModelMetadataResponse(
            name=loaded.name,
            versions=versions,
            platform=PLATFORM,
            inputs=map(_tensor_metadata, loaded.config.inputs),
            outputs=map(_tensor_metadata, loaded.config.outputs),
            properties=_properties(loaded),
        )

    def _model_config(self, request: pb.ModelConfigRequest) -> Message:
        loaded = self._catalogue.get(request.name, request.version)
        return pb.ModelConfigResponse(config=describe(loaded, self._catalogue.aliases(loaded.name)))


def _immediate(message_type: type[Any], answer: Callable[[Any], Message]) -> Handler:
    """Returns a handler for a method that is answered at once."""

    def handle(message: bytes, call: Call) -> None:
        call.reply(answer(parse_message(message_type, message)).SerializeToString())

    return handle


def _listing(message_type: type[Any], answer: Callable[[Any, Call], Message]) -> Handler:
    """Returns a handler for a method whose answer is limited to what the caller may see."""

    def handle(message: bytes, call: Call) -> None:
        call.reply(answer(parse_message(message_type, message), call).SerializeToString())

    return handle


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype.name, shape=[FREE if size < 0 else size for size in spec.shape]
    )


def _properties(loaded: LoadedVersion) -> dict[str, str]:
    evidence = loaded.evidence
    properties = {
        "version": str(loaded.version),
        "provider": loaded.provider,
        "engine": loaded.in_use.engine,
        "precision": loaded.precision,
        "verified": "true" if evidence.verified else "false",
        "evidence": evidence.summary,
        "rows": loaded.row_state,
    }
    if loaded.scores is not None:
        properties |= {"output_kind": loaded.scores.kind, "output_kind_reason": loaded.scores.reason}
    if loaded.config.pictures is not None:
        properties["picture"] = str(loaded.config.pictures)
    if loaded.unmerged:
        properties["unmerged"] = loaded.unmerged
    if evidence.card is not None:
        properties["card"] = evidence.card.model_dump_json(exclude_none=True)
    return properties
