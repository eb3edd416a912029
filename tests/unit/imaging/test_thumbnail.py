"""Thumbnails: small, and unchanged if the image is small already."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pixelserve.figures import ERROR_PICTURE_CHARACTERS
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.thumbnail import thumbnail
from pixelserve.imaging.values import as_values, shown_levels

RANDOM = np.random.default_rng(3)


def opened(levels: np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(thumbnail(levels))))


def test_a_digit_is_kept_to_the_last_bit() -> None:
    levels = np.zeros((28, 28, 1), np.uint8)
    levels[6:22, 13:16] = 255
    image = opened(levels)
    assert (image.format, image.mode) == ("PNG", "L")
    np.testing.assert_array_equal(np.asarray(image), levels[..., 0])


def test_a_photo_is_reduced_and_keeps_its_proportions() -> None:
    levels = np.zeros((100, 200, 3), np.uint8)
    levels[:, 100:] = (250, 120, 10)
    image = opened(levels)
    assert image.size == (32, 16)
    np.testing.assert_allclose(np.asarray(image.convert("RGB"))[8, 28], (250, 120, 10), atol=4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_worst_picture_fits_into_a_card(channels: int) -> None:
    noise = RANDOM.integers(0, 256, (32, 32, channels), np.uint8)
    assert len(thumbnail(noise)) < ERROR_PICTURE_CHARACTERS / 2


@pytest.mark.parametrize(
    ("line", "dims", "dtype"),
    [
        ("mnist", (28, 28, 1), "uint8"),
        ("keras colour=bgr", (8, 12, 3), "uint8"),
        ("imagenet", (3, 16, 16), "float32"),
        ("imagenet colour=bgr", (3, 16, 16), "float32"),
        ("keras scale=0..255", (8, 12, 3), "float32"),
        ("keras scale=-1..1", (8, 12, 3), "float16"),
    ],
)
def test_levels_are_found_again_in_a_models_numbers(line: str, dims: tuple[int, ...], dtype: str) -> None:
    spec = parse(line, Input(dims, dtype))
    levels = RANDOM.integers(0, 256, (5, spec.height, spec.width, spec.channels), np.uint8)
    values = np.stack([as_values(each, spec) for each in levels])
    found = shown_levels(values, spec)
    assert found is not None
    np.testing.assert_array_equal(found, levels)
    # As a client of a model without a batch dimension sends it.
    single = shown_levels(values[0], spec)
    assert single is not None
    np.testing.assert_array_equal(single, levels[:1])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -3.0, 3.0])
def test_numbers_that_no_picture_becomes_are_not_shown(wrong: float) -> None:
    spec = parse("imagenet", Input((3, 4, 4), "float32"))
    values = as_values(np.full((4, 4, 3), 128, np.uint8), spec)
    values[1, 2, 3] = wrong
    assert shown_levels(values, spec) is None


def test_another_type_or_shape_is_not_shown() -> None:
    spec = parse("imagenet", Input((3, 4, 4), "float32"))
    assert shown_levels(np.zeros((1, 3, 4, 4)), spec) is None
    assert shown_levels(np.zeros((1, 3, 4, 5), np.float32), spec) is None
