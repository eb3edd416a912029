"""The methods of inference.GRPCInferenceService that are served, as handlers of serialized messages."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.protobuf.message import Message

from pixelserve.oip import inference_pb2 as pb

from ..engine.batcher import Answer, Request
from ..engine.postprocess import top_classes
from ..engine.tensors import FREE, TensorSpec
from ..errors import InternalError, InvalidRequest, RequestError
from ..repository.catalogue import Catalogue
from ..repository.loader import LoadedVersion
from .call import Call, Handler
from .codec import decode_inputs, encode_bytes, encode_output, parse, parse_message
from .status import status_of

SERVICE = "inference.GRPCInferenceService"
PLATFORM = "onnxruntime_onnx"
# Only what is really served: clients switch features on by this list.
EXTENSIONS = ("classification",)
_CLASSIFICATION = "classification"
_TIMEOUT = "timeout"


class Readiness(Protocol):
    """Tells whether the server as a whole takes requests."""

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded and the server is not draining."""


class OpenInference:
    """Handles the service's methods. Handlers may be called from any thread."""

    def __init__(self, catalogue: Catalogue, readiness: Readiness, version: str) -> None:
        """Stores what it is handed: the loaded models, the server's readiness and its version."""
        self._catalogue = catalogue
        self._readiness = readiness
        self._version = version

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        immediate: dict[str, tuple[type[Any], Callable[[Any], Message]]] = {
            "ServerLive": (pb.ServerLiveRequest, self._server_live),
            "ServerReady": (pb.ServerReadyRequest, self._server_ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
        }
        handlers: dict[str, Handler] = {
            f"/{SERVICE}/{method}": _immediate(message_type, answer)
            for method, (message_type, answer) in immediate.items()
        }
        return handlers | {f"/{SERVICE}/ModelInfer": self.infer}

    def infer(self, message: bytes, call: Call) -> None:
        """Queues a ModelInfer request; the call is answered when its batch has run.

        Raises:
            RequestError: the request is wrong, or is not taken now.
        """
        arrived_ns = time.monotonic_ns()
        parsed = parse(message)
        head = parsed.head
        loaded = self._catalogue.get(head.model_name, head.model_version)
        _check_parameters(head.parameters, loaded.name)
        outputs = _requested_outputs(head, loaded)
        inputs, rows = decode_inputs(parsed, loaded.config)

        def on_done(answer: Answer | RequestError) -> None:
            if isinstance(answer, RequestError):
                call.fail(status_of(answer))
                return
            try:
                response = _response(head.id, loaded, outputs, answer).SerializeToString()
            except Exception:
                # Raised again for the log; the caller must not wait for an answer that never comes.
                call.fail(status_of(InternalError(f"model {loaded.name}: its outputs cannot be written as an answer")))
                raise
            call.reply(response)

        deadline_s = _deadline_s(head.parameters, call, arrived_ns)
        request = Request(inputs, rows, on_done, deadline_s, arrived_ns)

        def cancel() -> None:
            request.cancelled = True

        call.on_cancel(cancel)
        loaded.batcher.submit(request)

    def _server_live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=self._readiness.is_ready)

    def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        return pb.ModelReadyResponse(ready=self._catalogue.is_ready(request.name, request.version))

    def _server_metadata(self, _: pb.ServerMetadataRequest) -> Message:
        return pb.ServerMetadataResponse(name="pixelserve", version=self._version, extensions=EXTENSIONS)

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


def _immediate(message_type: type[Any], answer: Callable[[Any], Message]) -> Handler:
    """Returns a handler for a method that is answered on the spot."""

    def handle(message: bytes, call: Call) -> None:
        call.reply(answer(parse_message(message_type, message)).SerializeToString())

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
        "verified": "true" if evidence.verified else "false",
        "evidence": evidence.summary,
    }
    if evidence.card is not None:
        properties["card"] = evidence.card.model_dump_json(exclude_none=True)
    return properties


def _check_parameters(parameters: Mapping[str, pb.InferParameter], model: str) -> None:
    # Triton reserves this prefix; silently dropping one would change what the caller asked for.
    unknown = [name for name in parameters if name.startswith("triton_")]
    if unknown:
        raise InvalidRequest(f"model {model}: request parameter {unknown[0]} is not served; leave it out")


def _deadline_s(parameters: Mapping[str, pb.InferParameter], call: Call, arrived_ns: int) -> float | None:
    """Returns the earlier of the call's own deadline and the `timeout` parameter (microseconds)."""
    # A look-up in a protobuf map would add the key.
    if _TIMEOUT not in parameters:
        return call.deadline_s
    timeout = parameters[_TIMEOUT]
    timeout_us = timeout.int64_param or timeout.uint64_param
    if timeout_us <= 0:
        raise InvalidRequest("request parameter timeout: expected a positive number of microseconds, as int64_param")
    timeout_s = arrived_ns / 1e9 + timeout_us / 1e6
    return timeout_s if call.deadline_s is None else min(timeout_s, call.deadline_s)


RequestedOutput = tuple[TensorSpec, int]
"""An output to send, and how many best classes to send in place of its numbers (0: the numbers)."""


def _requested_outputs(head: pb.ModelInferRequest, loaded: LoadedVersion) -> list[RequestedOutput]:
    """Returns what to answer with, in the order asked for; all outputs where the request names none."""
    specs = {spec.name: spec for spec in loaded.config.outputs}
    if not head.outputs:
        return [(spec, 0) for spec in specs.values()]
    outputs: list[RequestedOutput] = []
    for asked in head.outputs:
        spec = specs.get(asked.name)
        if spec is None:
            raise InvalidRequest(f'model {loaded.name} has no output "{asked.name}"; it has {", ".join(specs)}')
        outputs.append((spec, _class_count(asked, spec, loaded)))
    if len({spec.name for spec, _ in outputs}) != len(outputs):
        raise InvalidRequest(f"model {loaded.name}: an output is asked for twice; name each once")
    return outputs


def _class_count(
    asked: pb.ModelInferRequest.InferRequestedOutputTensor, spec: TensorSpec, loaded: LoadedVersion
) -> int:
    if _CLASSIFICATION not in asked.parameters:
        return 0
    count = asked.parameters[_CLASSIFICATION].int64_param
    if count < 1:
        raise InvalidRequest(f"output {spec.name}: classification is {count}; expected 1 or more, as int64_param")
    rank = 2 if loaded.config.batching.max_batch_size else 1
    if len(spec.shape) != rank or spec.datatype.is_bytes:
        raise InvalidRequest(
            f"output {spec.name} of model {loaded.name} is no row of class scores; ask for it without classification"
        )
    return count


def _response(
    request_id: str, loaded: LoadedVersion, outputs: list[RequestedOutput], answer: Answer
) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(model_name=loaded.name, model_version=str(loaded.version), id=request_id)
    for spec, class_count in outputs:
        array = answer.outputs[spec.name]
        if not class_count:
            encode_output(response, spec, array)
            continue
        rows = top_classes(array if array.ndim == 2 else array[None], class_count, spec.labels)
        shape = [len(rows), len(rows[0])] if array.ndim == 2 else [len(rows[0])]
        response.outputs.add(name=spec.name, datatype="BYTES", shape=shape)
        response.raw_output_contents.append(encode_bytes([element for row in rows for element in row]))
    return response
