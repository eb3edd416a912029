"""Converts pictures to requests and answers to predictions. The only I/O is reading the pictures' files."""

import itertools
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import grpc

from pixelserve.v1 import classifier_pb2 as pb

from .errors import CallError, InternalError
from .pictures import Loaded, Picture, load
from .predictions import Prediction, classes_of, map_of, pixels_of

Inversion: TypeAlias = Literal["never", "always", "auto"]
"""Whether to invert pictures before inference; auto: if their border is lighter than mid-grey."""

_INVERSIONS = {
    None: pb.INVERSION_UNSPECIFIED,
    "never": pb.INVERSION_NEVER,
    "always": pb.INVERSION_ALWAYS,
    "auto": pb.INVERSION_AUTO,
}

# gRPC servers and proxies accept 4 MiB per message by default. A larger picture is sent alone.
MAX_REQUEST_BYTES = 3 * 1024 * 1024

# Servers' messages for too many pixels (32 times --max-image-pixels) and too many images (--max-images, the model's
# batch, or the number of fields). Clients do not know all of these limits: ListModels has only the model's batch, and
# picture headers are not read here.
_TOO_MUCH = re.compile("pixels together; at most|images; expected 1 to|too large: it has more than .* fields")
_LOG = logging.getLogger("pixelserve.client")


@dataclass
class Query:
    """The options for every picture of a call.

    Raises:
        ValueError: `inversion`, `top_k` or `occlusion` is out of range.
    """

    model: str
    """The model's name."""
    version: str = ""
    """The version's number; empty: the server's choice."""
    top_k: int = 1
    """Number of top classes to return, at least 1."""
    inversion: Inversion | None = None
    """Whether to invert pictures; None: the model's setting."""
    return_seen: bool = False
    """Whether to return each picture as the model saw it."""
    occlusion: int = 0
    """Cells per side of an occlusion map; 0: none."""
    most_images: int = sys.maxsize
    """Maximum pictures per request; lowered when the server refuses more."""

    def __post_init__(self) -> None:
        if self.inversion not in _INVERSIONS:
            raise ValueError(f"inversion must be 'never', 'always', 'auto' or None; got {self.inversion!r}")
        if not 1 <= self.top_k < 2**31:
            raise ValueError(f"top_k must be at least 1 and less than 2**31; got {self.top_k}")
        if not 0 <= self.occlusion < 2**31:
            raise ValueError(f"occlusion must be 2 to 8 cells per side, or 0 for none; got {self.occlusion}")

    def images_of(self, batch_size: int) -> int:
        """Returns the maximum pictures per request. An occlusion map needs a separate request."""
        return 1 if self.occlusion else min(batch_size, self.most_images)

    def batches(self, pictures: Iterable[Picture]) -> Iterator["Batch"]:
        """Yields pictures in requests of at most 3 MiB, loading each on demand.

        Raises:
            TypeError, ValueError: as for `pictures.load`.
        """
        batch, size = Batch(self), 0
        for picture in pictures:
            loaded = load(picture)
            added = loaded.image.ByteSize() if loaded.image else 0
            if (size and size + added > MAX_REQUEST_BYTES) or len(batch.loaded) >= self.most_images:
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
            return_seen=query.return_seen,
            occlusion=query.occlusion,
        )

    def add(self, loaded: Loaded) -> None:
        """Adds a picture; unreadable ones are not sent."""
        self.loaded.append(loaded)
        if loaded.image is not None:
            self.request.images.append(loaded.image)

    @property
    def is_to_be_sent(self) -> bool:
        """Whether the batch has pictures to send."""
        return bool(self.request.images)

    def unsent(self) -> list[Prediction]:
        """Returns the predictions of a batch with only unreadable pictures."""
        return [self._failed(loaded, loaded.error) for loaded in self.loaded]

    def answered(self, response: pb.ClassifyResponse) -> list[Prediction]:
        """Returns the predictions, in the pictures' order.

        Raises:
            InternalError: the answer lacks one result per picture, or its pixels or map have the wrong size.
        """
        if len(response.results) != len(self.request.images):
            message = f"the server sent {len(response.results)} results for {len(self.request.images)} pictures"
            raise InternalError(grpc.StatusCode.INTERNAL, message)
        results = iter(response.results)
        return [
            self._predicted(loaded, next(results), response) if loaded.image else self._failed(loaded, loaded.error)
            for loaded in self.loaded
        ]

    def halves(self, error: CallError) -> "list[Batch]":
        """Returns the pictures as two batches if the request was too large for the server; else nothing."""
        if not _is_too_much(error) or len(self.request.images) == 1:
            return []
        middle = -(-len(self.loaded) // 2)
        if middle < self._query.most_images:
            self._query.most_images = middle
            _LOG.warning(
                "the server refused %d pictures in a request: %s; sending at most %d (batch_size=%d avoids this)",
                len(self.request.images),
                error.message,
                middle,
                middle,
            )
        halves = [Batch(self._query), Batch(self._query)]
        for number, loaded in enumerate(self.loaded):
            halves[number >= middle].add(loaded)
        return halves

    def refused(self, error: CallError) -> list[Prediction]:
        """Returns the predictions of a batch whose only picture is too large for the server.

        Raises:
            CallError: it failed for another reason.
        """
        is_too_large = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.request.ByteSize() > MAX_REQUEST_BYTES
        if not (is_too_large or _is_too_much(error)) or len(self.request.images) != 1:
            raise error
        return [self._failed(loaded, loaded.error or error.message) for loaded in self.loaded]

    def _predicted(self, loaded: Loaded, result: pb.Result, response: pb.ClassifyResponse) -> Prediction:
        query, classes = self._query, classes_of(result.classes)
        kind = response.output_kind if not result.error else ""
        try:
            seen = pixels_of(result.seen) if query.return_seen and result.HasField("seen") else None
            occlusion = map_of(result.occlusion, query.occlusion) if query.occlusion and result.occlusion else None
        except ValueError as error:
            raise InternalError(grpc.StatusCode.INTERNAL, f"the server's answer is damaged: {error}") from error
        origin = response.model, response.version, loaded.source
        return Prediction(classes, result.error, *origin, kind, seen, occlusion)

    def _failed(self, loaded: Loaded, error: str) -> Prediction:
        return Prediction((), error, self._query.model, "", loaded.source)


def chunks(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Yields lists of up to `size` pictures, reading the iterable lazily."""
    pictures = iter(pictures)
    while chunk := list(itertools.islice(pictures, size)):
        yield chunk


def _is_too_much(error: CallError) -> bool:
    return error.code is grpc.StatusCode.INVALID_ARGUMENT and _TOO_MUCH.search(error.message) is not None
