"""The methods of pixelserve.v1.Classifier: pictures in, labels out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pixelserve.imaging.decode import decode_file, decode_raw
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.prepare import Inversion, PictureSpec, Pixels, prepare
from pixelserve.v1 import classifier_pb2 as pb

from ..engine.postprocess import best_classes
from ..engine.request import Answer, Request
from ..engine.scores import Reading
from ..engine.tensors import Array, TensorSpec
from ..errors import Cancelled, InvalidRequest, NotFound, RequestError, Unloading
from ..imaging.pool import DecodePool
from ..repository.aliases import ALIASES
from ..repository.catalogue import Catalogue
from ..repository.loader import LoadedVersion
from .call import Call, Handler, Subject
from .codec import parse_message
from .status import status_of
from .wire import MAX_FIELDS

SERVICE = "pixelserve.v1.Classifier"
_INVERSIONS: dict[int, Inversion | None] = {
    pb.INVERSION_UNSPECIFIED: None,
    pb.INVERSION_NEVER: "never",
    pb.INVERSION_ALWAYS: "always",
    pb.INVERSION_AUTO: "auto",
}

_NOT_FINITE = (
    "the model gave NaN or an infinity for this picture, which says nothing; "
    "if it does so for others too, its weights are damaged: train it or export it again"
)

Guarded = Callable[[Call, Callable[[], None]], None]
"""Runs work for a call and answers the call with whatever the work raises."""


@dataclass(frozen=True)
class PictureLimits:
    """What one Classify request may hold."""

    max_images: int
    """Most images."""
    max_pixels: int
    """Most pixels, width × height, an image."""


class Classifier:
    """Handles the service's methods. Handlers may be called from any thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        pool: DecodePool,
        limits: PictureLimits,
        guard: Guarded,
    ) -> None:
        """Stores what it is handed.

        Args:
            catalogue: the loaded models.
            pool: decodes pictures.
            limits: what a request may hold.
            guard: runs work for a call and answers the call with whatever that raises.
        """
        self._catalogue = catalogue
        self._pool = pool
        self._limits = limits
        self._guard = guard

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        return {f"/{SERVICE}/Classify": self.classify, f"/{SERVICE}/ListModels": self.list_models}

    def classify(self, message: bytes, call: Call) -> None:
        """Has a request's pictures decoded and queued; the call is answered when its batch has run.

        Raises:
            RequestError: the request is wrong, or is not taken now.
        """
        arrived_ns = time.monotonic_ns()
        request = parse_message(pb.ClassifyRequest, message, max_fields=self._limits.max_images + MAX_FIELDS)
        call.subject = Subject(request.model, request.version)
        job = _Job(request, lambda: self._look_up(request), call, self._limits.max_pixels, arrived_ns, self._guard)
        call.on_cancel(job.cancel)
        self._pool.submit(lambda: self._guard(call, job.run))

    def _look_up(self, request: pb.ClassifyRequest) -> tuple[LoadedVersion, PictureSpec]:
        """Returns the version that answers, and what pictures it takes."""
        loaded = self._version(request.model, request.version)
        return loaded, self._check(request, loaded)

    def _check(self, request: pb.ClassifyRequest, loaded: LoadedVersion) -> PictureSpec:
        pictures = loaded.config.pictures
        if pictures is None or loaded.scores is None:
            raise InvalidRequest(
                f"model {loaded.name} takes no pictures, having not one uint8 input [rows, height, width, 1 or 3] "
                f"and one output of class scores, or one that has labels; send it tensors with ModelInfer"
            )
        most = min(self._limits.max_images, loaded.config.batching.max_batch_size)
        if not 1 <= len(request.images) <= most:
            raise InvalidRequest(f"the request has {len(request.images)} images; expected 1 to {most}")
        if request.HasField("top_k") and request.top_k < 1:
            raise InvalidRequest(f"top_k is {request.top_k}; expected 1 or more, or nothing for 1")
        if request.inversion not in _INVERSIONS:
            raise InvalidRequest(f"inversion is {request.inversion}; expected one of {pb.Inversion.keys()}")
        return pictures

    def _version(self, model: str, version: str) -> LoadedVersion:
        """Returns the version that answers; `version` is its number, one of its names, or empty."""
        return (self._catalogue.get_alias if version in ALIASES else self._catalogue.get)(model, version)

    def list_models(self, message: bytes, call: Call) -> None:
        """Answers with every version that was loaded or failed to load.

        Raises:
            NotFound: a model is named and there is none of that name.
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


class _Job:
    """One Classify call on its way: decoded on a thread of the pool, computed by the batcher, then answered."""

    def __init__(
        self,
        request: pb.ClassifyRequest,
        look_up: Callable[[], tuple[LoadedVersion, PictureSpec]],
        call: Call,
        max_pixels: int,
        arrived_ns: int,
        guard: Guarded,
    ) -> None:
        self._request = request
        self._look_up = look_up
        self._loaded, self._pictures = look_up()
        self._call = call
        self._max_pixels = max_pixels
        self._arrived_ns = arrived_ns
        self._guard = guard
        self._submitted: Request | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._submitted is not None:
            self._submitted.cancel()

    def run(self) -> None:
        """Decodes the pictures and queues those that can be read."""
        while True:
            try:
                return self._submit()
            except Unloading:
                left = self._loaded
                # What took its place may want other pictures.
                self._loaded, self._pictures = self._look_up()
                if self._loaded is left:
                    raise

    def _submit(self) -> None:
        results = [self._prepare(image) for image in self._request.images if not self._is_cancelled]
        if self._is_cancelled:
            raise Cancelled(f"model {self._loaded.name}: the caller left before its pictures were decoded")
        pixels = [result for result in results if not isinstance(result, ImageError)]
        if not pixels:
            self._answer(results, None)
            return
        image = self._loaded.config.inputs[0]
        request = Request(
            {image.name: np.stack(pixels)},
            len(pixels),
            lambda answer: self._on_done(results, answer),
            self._call.deadline_s,
            self._arrived_ns,
        )
        self._submitted = request
        # The caller may have left between the last look and the line above.
        request.cancelled = self._is_cancelled
        self._loaded.batcher.submit(request)

    def _prepare(self, image: pb.Image) -> Pixels | ImageError:
        try:
            content = image.WhichOneof("content")
            if content is None:
                raise ImageError("the image is empty; send an encoded file or raw pixels")
            raw = image.raw
            decoded = (
                decode_file(image.encoded, self._max_pixels)
                if content == "encoded"
                else decode_raw(raw.data, raw.height, raw.width, raw.channels, self._max_pixels)
            )
            return prepare(decoded, self._pictures, _INVERSIONS[self._request.inversion])
        except ImageError as error:
            return error

    def _on_done(self, results: Sequence[Pixels | ImageError], answer: Answer | RequestError) -> None:
        if isinstance(answer, RequestError):
            self._call.fail(status_of(answer))
        else:
            loaded, call = self._loaded, self._call
            if call.record is not None:
                call.subject = Subject(loaded.name, str(loaded.version))
                call.record.computed(answer.batch, self._arrived_ns)
            scores = answer.outputs[loaded.scores.output.name] if loaded.scores else None
            # On the batcher's thread, where nobody else would answer the caller if this failed.
            self._guard(self._call, lambda: self._answer(results, scores))

    def _answer(self, results: Sequence[Pixels | ImageError], scores: Array | None) -> None:
        response = pb.ClassifyResponse(model=self._loaded.name, version=str(self._loaded.version))
        reader = self._loaded.scores
        computed: Iterator[pb.Result] = iter(())
        if reader is not None and scores is not None:
            reading = reader.read(scores)
            response.output_kind = reading.kind
            computed = _results(reader.output, reading, self._request)
        response.results.extend(
            pb.Result(error=str(result)) if isinstance(result, ImageError) else next(computed) for result in results
        )
        self._call.reply(response.SerializeToString())


def _results(output: TensorSpec, reading: Reading, request: pb.ClassifyRequest) -> Iterator[pb.Result]:
    """Yields each row's best classes, or that the model gave no numbers for it."""
    number = "probability" if reading.are_probabilities else "score"
    best = best_classes(reading.columns, request.top_k if request.HasField("top_k") else 1)
    for row, indices, is_finite in zip(reading.numbers, best, reading.finite, strict=True):
        if is_finite:
            classes = [
                pb.Class(label=_label(output, index), index=index, **{number: row[index]}) for index in indices.tolist()
            ]
            yield pb.Result(classes=classes)
        else:
            yield pb.Result(error=_NOT_FINITE)


def _label(output: TensorSpec, index: int) -> str:
    # A model that leaves the number of classes open may have more than there are labels.
    return output.labels[index] if index < len(output.labels) else str(index)


def _ready(loaded: LoadedVersion, aliases: Mapping[str, int]) -> pb.ModelVersion:
    evidence, config = loaded.evidence, loaded.config
    return pb.ModelVersion(
        name=loaded.name,
        version=str(loaded.version),
        state=pb.ModelVersion.STATE_READY,
        provider=loaded.provider,
        verified=evidence.verified,
        evidence=evidence.summary,
        card_json=evidence.card.model_dump_json(exclude_none=True) if evidence.card else "",
        inputs=map(_tensor, config.inputs),
        outputs=map(_tensor, config.outputs),
        max_batch_size=config.batching.max_batch_size,
        takes_images=config.pictures is not None,
        aliases=[alias for alias, version in aliases.items() if version == loaded.version],
        output_kind=loaded.scores.kind if loaded.scores else "",
        output_kind_reason=loaded.scores.reason if loaded.scores else "",
        unmerged=loaded.unmerged,
    )


def _tensor(spec: TensorSpec) -> pb.Tensor:
    return pb.Tensor(name=spec.name, datatype=spec.datatype.name, shape=spec.shape, labels=spec.labels)
