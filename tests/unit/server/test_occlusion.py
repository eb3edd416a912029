"""Occlusion: covered cells, and their cost."""

import numpy as np
import pytest

from pixelserve.v1 import classifier_pb2 as pb
from pixelserve_server.api import occlusion
from pixelserve_server.engine.scores import Reading
from pixelserve_server.errors import InvalidRequest


@pytest.mark.parametrize(("height", "width", "cells"), [(28, 28, 7), (10, 7, 3), (2, 2, 8)])
def test_covers_take_turns_over_every_pixel_and_nothing_twice(height: int, width: int, cells: int) -> None:
    levels = np.zeros((height, width, 1), np.uint8)
    levels[: height // 2] = 200
    covers = list(occlusion.covered(levels + 1, cells))
    assert len(covers) == cells**2
    # The median of two levels is between them, so each covered pixel has changed.
    assert np.array_equal(sum((cover != levels + 1).astype(int) for cover in covers), np.ones_like(levels, int))


def test_a_cover_has_the_median_colour_and_leaves_the_picture_alone() -> None:
    levels = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    levels[0, 0] = (250, 250, 250)
    first = next(occlusion.covered(levels, 2))
    assert first[0, 0].tolist() == [10, 20, 30]
    assert levels[0, 0].tolist() == [250, 250, 250]


def test_drops_are_those_of_the_first_rows_best_class() -> None:
    numbers = np.array([[0.1, 0.9], [0.4, 0.6], [0.0, 1.0], [np.nan, np.nan]])
    reading = Reading("probabilities", numbers, numbers, np.isfinite(numbers).all(axis=1), False)
    assert occlusion.drops(reading) == pytest.approx([0.3, -0.1, 0.0])


@pytest.mark.parametrize(
    ("images", "cells", "most", "says"),
    [
        (2, 7, 64, "the request has 2"),
        (1, 1, 64, "expected 2 to 8"),
        (1, 9, 1000, "expected 2 to 8"),
        (1, 2**32 - 1, 64, "expected 2 to 8"),
        (1, 8, 64, "65 pictures in one batch; the model's batch is at most 64"),
        (1, 2, 0, "at most 0"),
    ],
)
def test_what_cannot_be_computed_is_refused(images: int, cells: int, most: int, says: str) -> None:
    request = pb.ClassifyRequest(occlusion=cells, images=[pb.Image()] * images)
    with pytest.raises(InvalidRequest, match=says):
        occlusion.check(request, most)


def test_a_request_without_occlusion_needs_nothing() -> None:
    occlusion.check(pb.ClassifyRequest(images=[pb.Image()] * 3), 0)
