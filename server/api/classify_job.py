"""One Classify call: decoded picture by picture in the pool, computed by the batcher, then answered."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pixelserve.imaging.decode import Picture, open_file, open_raw
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.prepare import fitted
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.values import as_levels, as_values
from pixelserve.imaging.words import Inversion
from pixelserve.v1 import classifier_pb2 as pb

from ..engine.postprocess import best_classes
from ..engine.request import Answer, Request
from ..engine.scores import Reading
from ..engine.tensors import Array, TensorSpec
from ..errors import Cancelled, InvalidRequest, RequestError, Unloading
from ..imaging.fair import Step
from ..imaging.pool import DecodePool
from ..repository.loaded import LoadedVersion
from . import occlusion
from .call import Call, Subject
from .status import status_of

INVERSIONS: dict[int, Inversion | None] = {
    pb.INVERSION_UNSPECIFIED: None,
    pb.INVERSION_NEVER: "never",
    pb.INVERSION_ALWAYS: "always",
    pb.INVERSION_AUTO: "auto",
}
"""A request's values for inversion; None: the model decides."""

Guarded = Callable[[Call, Callable[[], None]], None]
"""Runs work for a call, and answers the call with the error that it raises."""

LookUp = Callable[[], tuple[LoadedVersion, PictureSpec]]
"""Returns the version that answers, and its picture specification."""

# Requests up to this size are decoded when they are measured: waiting again would take longer.
_SMALL_PIXELS = 1024 * 1024
_SMALL_BYTES = 32 * 1024 * 1024
# All are decoded before the first is prepared.
_DECODED_BYTES = 4 * _SMALL_PIXELS
# The cost of reading a picture's header, in pixels decoded in the same time; and the bytes read.
_LOOK_PIXELS = 5000
_BYTES_A_PIXEL = 4

_NOT_FINITE = (
    "the model returned NaN or infinity for this picture; "
    "if it does so for others too, its weights are damaged: train it or export it again"
)

FULL_PICTURES = 32
"""Maximum pictures of --max-image-pixels per request, which bounds its decoding time."""


@dataclass(frozen=True)
class PictureLimits:
    """Limits of one Classify request."""

    max_images: int
    """Most images."""
    max_pixels: int
    """Maximum pixels (width × height) per image."""
    max_request_pixels: int
    """Maximum pixels of all images together."""
    max_bytes: int
    """Maximum memory to decode one image."""


class _Waiting(NamedTuple):
    """A measured picture to decode."""

    number: int
    cost: int
    bytes: int


class ClassifyJob:
    """Decodes one call's pictures in the pool, queues them, and answers the call."""

    def __init__(
        self,
        request: pb.ClassifyRequest,
        look_up: LookUp,
        call: Call,
        pool: DecodePool,
        limits: PictureLimits,
        arrived_ns: int,
        guard: Guarded,
    ) -> None:
        """Looks up the version, and counts the prepared pictures' bytes for the call.

        Raises:
            RequestError: the request is invalid, or too many bytes are in flight.
        """
        self._request = request
        self._look_up = look_up
        self._loaded, self._spec = look_up()
        self._call = call
        self._pool = pool
        self._limits = limits
        self._arrived_ns = arrived_ns
        self._guard = guard
        self.sender = call.sender
        self.deadline_s = call.deadline_s
        self.is_over = False
        sizes = [len(image.encoded) for image in request.images]
        cost = sum(_LOOK_PIXELS + size // _BYTES_A_PIXEL for size in sizes)
        # Opening some formats copies the file.
        self.first = Step(cost, cost, _SMALL_BYTES + _DECODED_BYTES + 2 * sum(sizes))
        self._submitted: Request | None = None
        self._count_pixels()
        self._start_over()

    def _count_pixels(self) -> None:
        spec = self._spec
        seen_bytes = spec.height * spec.width * spec.channels if self._request.return_seen else 0
        self._call.reserve(len(self._request.images) * seen_bytes + occlusion.rows_of(self._request) * spec.nbytes)

    def _start_over(self) -> None:
        # None: not measured.
        self._waiting: deque[_Waiting] | None = None
        self._errors: list[ImageError | None] = [None] * len(self._request.images)
        self._rows: Array | None = None
        self._seen: list[pb.RawPixels] = []
        self._count = 0
        self._next: Step | None = None

    def cancel(self) -> None:
        """Cancels the job because the caller left: at once, or after the current picture."""
        self.is_over = True
        self._pool.drop(self, Cancelled(self._left()))
        if self._submitted is not None:
            self._submitted.cancel()

    def drop(self, error: RequestError) -> None:
        """Ends the job unfinished; see `Work`."""
        self.is_over = True
        self._call.fail(status_of(error))

    def run(self) -> Step | None:
        """Does one step: measures all pictures, or decodes one; after the last, queues the readable ones."""
        self._next = None
        self._guard(self._call, self._go_on)
        return self._next

    def _left(self) -> str:
        return f"model {self._loaded.name}: the caller left before its pictures were decoded"

    def _go_on(self) -> None:
        if self._waiting is None:
            self._measure()
        else:
            self._decode_waiting(self._waiting.popleft().number)
        if self.is_over:
            raise Cancelled(self._left())
        if self._waiting:
            first = self._waiting[0]
            self._next = Step(first.cost, sum(each.cost for each in self._waiting), first.bytes)
        else:
            self._submit()

    def _measure(self) -> None:
        """Reads the pictures' sizes from their headers; decodes small ones at once."""
        waiting: deque[_Waiting] = deque()
        opened: list[Picture] = []
        pixels = 0
        for index, image in enumerate(self._request.images):
            if self.is_over:
                return
            try:
                picture, size_bytes = self._open(image)
            except ImageError as error:
                self._errors[index] = error
                continue
            pixels += picture.pixels
            waiting.append(_Waiting(index, picture.cost, size_bytes))
            if pixels <= _SMALL_PIXELS and size_bytes <= _SMALL_BYTES:
                opened.append(picture)
            else:
                opened.clear()
        if pixels > self._limits.max_request_pixels:
            raise InvalidRequest(
                f"the request's pictures have {pixels:,} pixels together; at most {self._limits.max_request_pixels:,} "
                f"are accepted ({FULL_PICTURES} × --max-image-pixels): send fewer or smaller ones at a time"
            )
        if len(opened) == len(waiting):
            self._decode((each.number, picture) for each, picture in zip(waiting, opened, strict=True))
            waiting.clear()
        self._waiting = waiting

    def _open(self, image: pb.Image) -> tuple[Picture, int]:
        """Returns a picture and its memory; raises ImageError if it is unreadable or needs too much."""
        content, most = image.WhichOneof("content"), self._limits.max_pixels
        if content is None:
            raise ImageError("the image is empty; send an encoded file or raw pixels")
        if content == "encoded":
            picture = open_file(image.encoded, most)
        else:
            raw = image.raw
            picture = open_raw(raw.data, raw.height, raw.width, raw.channels, most)
        size_bytes = picture.bytes_needed(self._spec, INVERSIONS[self._request.inversion])
        size_bytes += self._request.occlusion**2 * self._spec.nbytes
        if size_bytes > self._limits.max_bytes:
            raise ImageError(
                f"the picture takes up to {size_bytes:,} bytes of memory while it is decoded; at most "
                f"{self._limits.max_bytes:,} are allowed (--max-decode-mib): send a smaller picture, or PNG or JPEG"
            )
        return picture, size_bytes

    def _decode_waiting(self, index: int) -> None:
        try:
            picture, _ = self._open(self._request.images[index])
        except ImageError as error:
            self._errors[index] = error
        else:
            self._decode([(index, picture)])

    def _decode(self, pictures: Iterable[tuple[int, Picture]]) -> None:
        """Adds the rows of pictures, given with their positions in the request.

        First decodes all, then prepares all: one by one, 32 digits take 20 % longer each, because the steps would evict
        each other's code and tables from the processor's caches.
        """
        decoded: list[tuple[int, Any]] = []
        for index, picture in pictures:
            try:
                decoded.append((index, picture.decode()))
            except ImageError as error:
                self._errors[index] = error
        for index, image in decoded:
            try:
                self._prepare(image)
            except ImageError as error:
                self._errors[index] = error

    def _prepare(self, image: Any) -> None:
        spec, cells = self._spec, self._request.occlusion
        if self._rows is None:
            self._rows = np.empty((occlusion.rows_of(self._request), *spec.shape), spec.dtype)
        levels = fitted(image, spec, INVERSIONS[self._request.inversion])
        self._rows[self._count] = as_values(levels, spec)
        self._count += 1
        if cells:
            for cover in occlusion.covered(levels, cells):
                self._rows[self._count] = as_values(cover, spec)
                self._count += 1
        if self._request.return_seen:
            self._seen.append(raw_pixels(levels))

    def _submit(self) -> None:
        if self._rows is None or not self._count:
            self._answer(None)
            return
        image = self._loaded.config.inputs[0]
        rows, self._rows = self._rows[: self._count], None
        call = self._call
        request = Request(
            {image.name: rows}, len(rows), self._on_done, call.deadline_s, self._arrived_ns, sender=call.sender
        )
        self._submitted = request
        # The caller may have left between the last check and the line above.
        request.cancelled = self.is_over
        try:
            self._loaded.batcher.submit(request)
        except Unloading:
            left = self._loaded
            self._loaded, self._spec = self._look_up()
            if self._loaded is left:
                raise
            # Its replacement may accept other pictures.
            self._count_pixels()
            self._start_over()
            self._next = self.first

    def _on_done(self, answer: Answer | RequestError) -> None:
        if isinstance(answer, RequestError):
            self._call.fail(status_of(answer))
        else:
            loaded, call = self._loaded, self._call
            if call.record is not None:
                call.subject = Subject(loaded.name, str(loaded.version))
                call.record.computed(answer.batch, self._arrived_ns, answer.rows)
            scores = answer.outputs[loaded.scores.output.name] if loaded.scores else None
            # Runs on the batcher's thread: if this raised, the caller would get no answer.
            self._guard(self._call, lambda: self._answer(scores))

    def _answer(self, scores: Array | None) -> None:
        response = pb.ClassifyResponse(model=self._loaded.name, version=str(self._loaded.version))
        computed: list[pb.Result] = []
        for error in self._errors:
            if error is None:
                computed.append(response.results.add())
            else:
                response.results.add(error=str(error))
        reader = self._loaded.scores
        if reader is not None and scores is not None:
            reading = reader.read(scores)
            response.output_kind = reading.kind
            _add_classes(computed, reader.output, reading, self._request)
            for result, seen in zip(computed, self._seen, strict=False):
                result.seen.CopyFrom(seen)
            if self._request.occlusion and not computed[0].error:
                computed[0].occlusion.extend(occlusion.drops(reading))
        self._call.reply(response.SerializeToString())


def _add_classes(
    results: Sequence[pb.Result], output: TensorSpec, reading: Reading, request: pb.ClassifyRequest
) -> None:
    """Adds each row's best classes to its result, or an error if the model gave no finite numbers."""
    number = "probability" if reading.are_probabilities else "score"
    best = best_classes(reading.columns, request.top_k if request.HasField("top_k") else 1)
    numbers = np.take_along_axis(reading.numbers, best, axis=1)
    # Rows of covered pictures come last and have no result.
    rows = zip(results, best.tolist(), numbers.tolist(), reading.finite.tolist(), strict=False)
    for result, indices, values, is_finite in rows:
        if not is_finite:
            result.error = _NOT_FINITE
            continue
        # In place: creating messages first and then adding them takes twice as long.
        add = result.classes.add
        for index, value in zip(indices, values, strict=True):
            add(label=_label(output, index), index=index, **{number: value})


def raw_pixels(levels: Array) -> pb.RawPixels:
    height, width, channels = levels.shape
    return pb.RawPixels(height=height, width=width, channels=channels, data=as_levels(levels).tobytes())


def _label(output: TensorSpec, index: int) -> str:
    # A model with a free number of classes may have more of them than labels.
    return output.labels[index] if index < len(output.labels) else str(index)
