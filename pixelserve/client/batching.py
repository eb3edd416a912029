"""From pictures to requests, and from answers to predictions. No input or output but reading the pictures' files."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import grpc

from pixelserve.v1 import classifier_pb2 as pb

from .errors import CallError, InternalError
from .pictures import Loaded, Picture, load
from .predictions import Prediction, classes_of

Inversion: TypeAlias = Literal["never", "always", "auto"]
"""Whether pictures are inverted before the model sees them; auto: where their border is lighter than mid-grey."""

_INVERSIONS = {
    None: pb.INVERSION_UNSPECIFIED,
    "never": pb.INVERSION_NEVER,
    "always": pb.INVERSION_ALWAYS,
    "auto": pb.INVERSION_AUTO,
}

# gRPC servers and proxies take 4 MiB a message unless told otherwise. A larger picture travels alone.
MAX_REQUEST_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True)
class Query:
    """What is asked about every picture of a call.

    Raises:
        ValueError: `inversion` or `top_k` is not one of those that there are.
    """

    model: str
    """The model's name."""
    version: str = ""
    """The version's number; empty: the one that the server would choose."""
    top_k: int = 1
    """How many of the best classes to return, at least 1."""
    inversion: Inversion | None = None
    """Whether pictures are inverted; None: as the model's configuration says."""

    def __post_init__(self) -> None:
        if self.inversion not in _INVERSIONS:
            raise ValueError(f"inversion must be 'never', 'always', 'auto' or None, and is {self.inversion!r}")
        if not 1 <= self.top_k < 2**31:
            raise ValueError(f"top_k must be at least 1 and less than 2**31, and is {self.top_k}")

    def batches(self, pictures: Iterable[Picture]) -> Iterator["Batch"]:
        """Loads pictures and yields them in requests of at most 3 MiB, each loaded when it is asked for.

        Raises:
            TypeError, ValueError: as `pictures.load` says.
        """
        batch, size = Batch(self), 0
        for picture in pictures:
            loaded = load(picture)
            added = loaded.image.ByteSize() if loaded.image else 0
            if size and size + added > MAX_REQUEST_BYTES:
                yield batch
                batch, size = Batch(self), 0
            batch.add(loaded)
            size += added
        if batch.loaded:
            yield batch


class Batch:
    """The pictures of one request."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.loaded: list[Loaded] = []
        self.request = pb.ClassifyRequest(
            model=query.model,
            version=query.version,
            top_k=query.top_k,
            inversion=_INVERSIONS[query.inversion],
        )

    def add(self, loaded: Loaded) -> None:
        """Adds a picture; one that could not be loaded is not sent."""
        self.loaded.append(loaded)
        if loaded.image is not None:
            self.request.images.append(loaded.image)

    @property
    def is_to_be_sent(self) -> bool:
        """Whether there is anything to ask the server."""
        return bool(self.request.images)

    def unsent(self) -> list[Prediction]:
        """Returns the predictions of a batch none of whose pictures could be loaded."""
        return [self._failed(loaded, loaded.error) for loaded in self.loaded]

    def answered(self, response: pb.ClassifyResponse) -> list[Prediction]:
        """Returns the predictions, in the pictures' order.

        Raises:
            InternalError: the answer has not one result for each picture.
        """
        if len(response.results) != len(self.request.images):
            message = f"the server answered {len(response.results)} results for {len(self.request.images)} pictures"
            raise InternalError(grpc.StatusCode.INTERNAL, message)
        results = iter(response.results)
        return [
            self._failed(loaded, loaded.error) if loaded.image is None else _predicted(loaded, next(results), response)
            for loaded in self.loaded
        ]

    def refused(self, error: CallError) -> list[Prediction]:
        """Returns the predictions of a batch whose call failed because of its only picture's size.

        Raises:
            CallError: it failed for another reason, which is no picture's fault.
        """
        is_too_large = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.request.ByteSize() > MAX_REQUEST_BYTES
        if not is_too_large or len(self.request.images) != 1:
            raise error
        return [self._failed(loaded, loaded.error or error.message) for loaded in self.loaded]

    def _failed(self, loaded: Loaded, error: str) -> Prediction:
        return Prediction((), error, self._query.model, "", loaded.source)


def chunks(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Yields so many pictures at a time, and takes no more from the iterable than that."""
    pictures = iter(pictures)
    while chunk := list(itertools.islice(pictures, size)):
        yield chunk


def _predicted(loaded: Loaded, result: pb.Result, response: pb.ClassifyResponse) -> Prediction:
    classes, kind = classes_of(result.classes), response.output_kind if not result.error else ""
    return Prediction(classes, result.error, response.model, response.version, loaded.source, kind)
