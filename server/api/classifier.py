"""The methods of pixelserve.v1.Classifier: pictures in, labels out."""

import time
from collections.abc import Mapping

from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.values import shown_levels
from pixelserve.v1 import classifier_pb2 as pb

from ..engine.tensors import TensorSpec
from ..errors import InvalidRequest, NotFound
from ..imaging.pool import DecodePool
from ..repository.aliases import ALIASES
from ..repository.catalogue import Catalogue
from ..repository.loaded import LoadedVersion
from . import occlusion
from .call import Call, Handler, Subject
from .classify_job import INVERSIONS, ClassifyJob, Guarded, PictureLimits, raw_pixels
from .codec import parse_message
from .wire import MAX_FIELDS

SERVICE = "pixelserve.v1.Classifier"


class Classifier:
    """Handles the service's methods. Handlers may be called from any thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        pool: DecodePool,
        limits: PictureLimits,
        guard: Guarded,
    ) -> None:
        """Creates the service.

        Args:
            catalogue: the loaded models.
            pool: decodes pictures.
            limits: limits of a request.
            guard: runs work for a call, and answers the call with the error that it raises.
        """
        self._catalogue = catalogue
        self._pool = pool
        self._limits = limits
        self._guard = guard

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        return {
            f"/{SERVICE}/Classify": self.classify,
            f"/{SERVICE}/ListModels": self.list_models,
            f"/{SERVICE}/Samples": self.samples,
        }

    def classify(self, message: bytes, call: Call) -> None:
        """Queues a request's pictures for decoding; the call is answered when its batch has run.

        Raises:
            RequestError: the request is invalid or refused.
        """
        arrived_ns = time.monotonic_ns()
        request = parse_message(pb.ClassifyRequest, message, max_fields=self._limits.max_images + MAX_FIELDS)
        call.subject = Subject(request.model, request.version)
        job = ClassifyJob(
            request, lambda: self._look_up(request), call, self._pool, self._limits, arrived_ns, self._guard
        )
        call.on_cancel(job.cancel)
        self._pool.submit(job)

    def _look_up(self, request: pb.ClassifyRequest) -> tuple[LoadedVersion, PictureSpec]:
        """Returns the version that answers, and its picture specification."""
        loaded = self._version(request.model, request.version)
        return loaded, self._check(request, loaded)

    def _check(self, request: pb.ClassifyRequest, loaded: LoadedVersion) -> PictureSpec:
        pictures = loaded.config.pictures
        if pictures is None or loaded.scores is None:
            raise InvalidRequest(
                f"model {loaded.name} is not an image classifier: it needs one uint8 input [rows, height, width, "
                f"1 or 3], or a parameter picture in its config.pbtxt, and one output of class scores, or one that has "
                f"labels; send it tensors with ModelInfer"
            )
        most = min(self._limits.max_images, loaded.config.batching.max_batch_size or 1)
        if not 1 <= len(request.images) <= most:
            raise InvalidRequest(f"the request has {len(request.images)} images; expected 1 to {most}")
        if request.HasField("top_k") and request.top_k < 1:
            raise InvalidRequest(f"top_k is {request.top_k}; expected 1 or more, or none for 1")
        occlusion.check(request, loaded.config.batching.max_batch_size)
        if request.inversion not in INVERSIONS:
            raise InvalidRequest(f"inversion is {request.inversion}; expected one of {pb.Inversion.keys()}")
        return pictures

    def _version(self, model: str, version: str) -> LoadedVersion:
        """Returns the version that answers; `version` is its number, one of its names, or empty."""
        return (self._catalogue.get_alias if version in ALIASES else self._catalogue.get)(model, version)

    def list_models(self, message: bytes, call: Call) -> None:
        """Answers with every version that is loaded or failed to load.

        Raises:
            NotFound: the named model does not exist.
        """
        request = parse_message(pb.ListModelsRequest, message)
        names = [name for name in self._catalogue.names() if call.may_see(name)]
        if request.name and request.name not in names:
            raise NotFound(f'there is no model "{request.name}"; this server has {", ".join(names)}')
        names = [request.name] if request.name else names
        unavailable = pb.ModelVersion.STATE_UNAVAILABLE
        response = pb.ListModelsResponse()
        for name in names:
            aliases = self._catalogue.aliases(name)
            response.versions.extend(_ready(each, aliases) for each in self._catalogue.ready_versions(name))
            response.versions.extend(
                pb.ModelVersion(name=name, version=version, state=unavailable, reason=status.reason)
                for version, status in self._catalogue.others(name)
            )
        call.reply(response.SerializeToString())

    def samples(self, message: bytes, call: Call) -> None:
        """Answers with sample pictures for a version.

        Raises:
            RequestError: the version does not exist or is not ready.
        """
        request = parse_message(pb.SamplesRequest, message)
        loaded = self._version(request.model, request.version)
        samples, taken = loaded.evidence.samples, loaded.config.pictures
        levels = None if samples is None or taken is None else shown_levels(samples, taken)
        response = pb.SamplesResponse(pictures=() if levels is None else map(raw_pixels, levels))
        call.reply(response.SerializeToString())


def _ready(loaded: LoadedVersion, aliases: Mapping[str, int]) -> pb.ModelVersion:
    evidence, config = loaded.evidence, loaded.config
    return pb.ModelVersion(
        name=loaded.name,
        version=str(loaded.version),
        state=pb.ModelVersion.STATE_READY,
        provider=loaded.provider,
        engine=loaded.in_use.engine,
        precision=loaded.precision,
        verified=evidence.verified,
        evidence=evidence.summary,
        card_json=evidence.card.model_dump_json(exclude_none=True) if evidence.card else "",
        inputs=map(_tensor, config.inputs),
        outputs=map(_tensor, config.outputs),
        max_batch_size=config.batching.max_batch_size,
        takes_images=config.pictures is not None,
        picture="" if config.pictures is None else str(config.pictures),
        aliases=[alias for alias, version in aliases.items() if version == loaded.version],
        output_kind=loaded.scores.kind if loaded.scores else "",
        output_kind_reason=loaded.scores.reason if loaded.scores else "",
        unmerged=loaded.unmerged,
    )


def _tensor(spec: TensorSpec) -> pb.Tensor:
    return pb.Tensor(name=spec.name, datatype=spec.datatype.name, shape=spec.shape, labels=spec.labels)
