"""Occlusion: finds which parts of a picture an answer depends on, by covering each (Zeiler & Fergus 2014)."""

from collections.abc import Iterator

import numpy as np

from pixelserve.v1 import classifier_pb2 as pb

from ..engine.scores import Reading
from ..engine.tensors import Array
from ..errors import InvalidRequest

MOST_CELLS = 8
"""Maximum cells per side."""


def rows_of(request: pb.ClassifyRequest) -> int:
    """Returns the number of rows of a request: one per picture, and one per covered cell."""
    return len(request.images) + request.occlusion**2


def check(request: pb.ClassifyRequest, max_batch_size: int) -> None:
    """Raises InvalidRequest if a request's occlusion does not fit its model or its number of pictures.

    Args:
        request: the request.
        max_batch_size: maximum rows of one run, which all cells share.
    """
    cells = request.occlusion
    if not cells:
        return
    if len(request.images) != 1:
        raise InvalidRequest(f"occlusion is for one image; the request has {len(request.images)}")
    if not 2 <= cells <= MOST_CELLS:
        raise InvalidRequest(f"occlusion is {cells}; expected 2 to {MOST_CELLS} cells per side, or 0 for none")
    if rows_of(request) > max_batch_size:
        raise InvalidRequest(
            f"occlusion of {cells} × {cells} cells computes {rows_of(request)} pictures in one batch; the model's "
            f"batch is at most {max_batch_size}: request fewer cells"
        )


def covered(levels: Array, cells: int) -> Iterator[Array]:
    """Yields a picture [height, width, channels] with each cell in turn covered by the picture's median colour."""
    height, width = levels.shape[:2]
    colour = np.median(levels, axis=(0, 1)).astype(levels.dtype)
    for row in range(cells):
        for column in range(cells):
            picture = levels.copy()
            picture[
                height * row // cells : height * (row + 1) // cells,
                width * column // cells : width * (column + 1) // cells,
            ] = colour
            yield picture


def drops(reading: Reading) -> list[float]:
    """Returns by how much covering each cell lowers the score of the first row's best class; 0 if unknown."""
    best = int(reading.columns[0].argmax())
    lost = reading.numbers[0, best] - reading.numbers[1:, best]
    found: list[float] = np.where(np.isfinite(lost), lost, 0).tolist()
    return found
