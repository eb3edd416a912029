"""Each fit shows its part of an image; an image of the model's size is unchanged."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.fit import Crop, crop
from pixelserve.imaging.prepare import prepare

COLOUR = Input((20, 20, 3), "uint8")
GREY = Input((28, 28, 1), "uint8")


def thirds(width: int = 60, height: int = 20) -> Image.Image:
    """Returns a picture whose left third is red, the middle one green and the right one blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for third in range(3):
        pixels[:, third * width // 3 : (third + 1) * width // 3, third] = 255
    return Image.fromarray(pixels)


def shown(line: str, image: Image.Image, taken: Input = COLOUR) -> Any:
    return prepare(image, parse(line, taken))


def test_a_letterbox_has_the_whole_picture_and_its_background() -> None:
    pixels = shown("fit=letterbox background=#0a141e", thirds())
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[10, [1, 10, 18]].argmax(axis=-1).tolist() == [0, 1, 2]


def test_a_letterboxed_picture_is_in_the_middle() -> None:
    tall = shown("fit=letterbox background=#0a141e", Image.new("RGB", (20, 60)))
    is_background = (tall == [10, 20, 30]).all(axis=(0, 2))
    assert np.flatnonzero(~is_background).tolist() == list(range(6, 13))


def test_without_antialias_a_pixels_centre_is_half_a_pixel_from_its_edge() -> None:
    ramp = np.repeat(4 * np.arange(40, dtype=np.uint8)[np.newaxis, :, np.newaxis], 20, axis=0).repeat(3, axis=2)
    pixels = shown("fit=stretch resampling=bilinear antialias=no", Image.fromarray(ramp))
    assert pixels[0, :, 0].tolist() == [8 * column + 2 for column in range(20)]


def test_a_crop_rounds_the_longer_side_down() -> None:
    # 20 × 50 / 33 is 30.3.
    assert crop((50, 33), parse("fit=crop", COLOUR)) == Crop((30, 20), 5, 0)


def test_a_grey_letterbox_has_the_backgrounds_grey() -> None:
    pixels = shown("background=#ff0000", Image.new("L", (56, 28), 9), GREY)
    assert (pixels[0, 0, 0], pixels[14, 14, 0]) == (76, 9)


def test_a_stretched_picture_fills_the_models() -> None:
    pixels = shown("fit=stretch resampling=nearest", thirds())
    assert pixels[[0, 19]][:, [0, 10, 19]].argmax(axis=-1).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("antialias", ["yes", "no"])
def test_a_crop_has_the_centre(antialias: str) -> None:
    pixels = shown(f"fit=crop antialias={antialias}", thirds())
    assert (pixels.argmax(axis=-1) == 1).all()


def test_a_crop_of_a_long_strip_has_its_centre_without_making_the_strip() -> None:
    # Resized whole it would have 20 × 2,000,000 pixels.
    pixels = shown("fit=crop", thirds(99_999, 1))
    assert (pixels.argmax(axis=-1) == 1).all()


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "bicubic", "area"])
def test_a_picture_of_the_models_size_is_left_as_it_is(fit: str, resampling: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    np.testing.assert_array_equal(shown(f"fit={fit} resampling={resampling}", image), np.asarray(image))


def test_a_crop_with_a_margin_crops_a_picture_of_the_models_size_too() -> None:
    edged = np.full((20, 20, 3), 255, np.uint8)
    edged[2:-2, 2:-2] = 0
    assert shown("fit=crop resize=40", Image.fromarray(edged)).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
@pytest.mark.parametrize("line", ["keras", "imagenet", "vit", "resampling=bicubic", "fit=crop resampling=area"])
def test_the_smallest_and_thinnest_pictures_are_taken(size: tuple[int, int], line: str) -> None:
    assert shown(line, Image.new("RGB", size, (9, 9, 9))).tolist() == [[[9, 9, 9]] * 20] * 20


def test_floats_have_the_layout_order_and_scale_that_were_declared() -> None:
    image = Image.new("RGB", (4, 4), (0, 51, 255))
    values = shown("colour=bgr mean=0.2,0.4,0.6 std=0.5,1,2", image, Input((3, 4, 4), "float32"))
    assert (values.dtype, values.shape) == (np.float32, (3, 4, 4))
    assert values[:, 2, 2] == pytest.approx([(1 - 0.2) / 0.5, (0.2 - 0.4) / 1, (0 - 0.6) / 2])
    assert shown("scale=0..255", image, Input((4, 4, 3), "float16"))[0, 0].tolist() == [0, 51, 255]


class TestDigits:
    """fit=mnist: as MNIST's own digits are placed."""

    @staticmethod
    def drawn(left: int, top: int, width: int, height: int, ground: int = 0, side: int = 280) -> Image.Image:
        pixels = np.full((side, side), ground, np.uint8)
        pixels[top : top + height, left : left + width] = 255
        return Image.fromarray(pixels)

    @pytest.mark.parametrize("at", [(0, 0), (230, 200), (100, 90)])
    def test_ink_becomes_20_pixels_high_with_its_centre_of_mass_in_the_middle(self, at: tuple[int, int]) -> None:
        pixels = shown("fit=mnist", self.drawn(*at, 40, 80), GREY)[..., 0]
        rows, columns = np.flatnonzero(pixels.max(axis=1)), np.flatnonzero(pixels.max(axis=0))
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 23, 9, 18)
        assert pixels[4:24, 9:19].min() == 255

    def test_what_is_heavier_on_one_side_moves_to_the_other(self) -> None:
        pixels = np.asarray(self.drawn(100, 100, 100, 20)).copy()
        pixels[100:200, 100:120] = 255
        centred = shown("fit=mnist", Image.fromarray(pixels), GREY)[..., 0].astype(float)
        for axis in (0, 1):
            middle = (centred.sum(axis=axis) @ (np.arange(28) + 0.5)) / centred.sum()
            assert middle == pytest.approx(14, abs=0.51)

    def test_a_single_speck_does_not_move_a_digit(self) -> None:
        clean, dirty = self.drawn(100, 90, 40, 80, side=1000), self.drawn(100, 90, 40, 80, side=1000)
        dirty.putpixel((995, 995), 255)
        np.testing.assert_array_equal(shown("fit=mnist", dirty, GREY), shown("fit=mnist", clean, GREY))

    def test_a_grey_ground_is_taken_to_black(self) -> None:
        assert shown("fit=mnist", self.drawn(100, 90, 40, 80, ground=60), GREY)[0, 0, 0] == 0

    def test_an_empty_pad_is_black(self) -> None:
        for level in (0, 77, 255):
            assert shown("fit=mnist", Image.new("L", (280, 280), level), GREY).max() == 0

    def test_a_digit_of_mnist_stays_as_it_is(self) -> None:
        digit = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
        np.testing.assert_array_equal(shown("fit=mnist", Image.fromarray(digit), GREY)[..., 0], digit)

    def test_a_dark_drawing_on_white_is_one_too(self) -> None:
        dark = Image.eval(self.drawn(20, 30, 40, 80), lambda level: 255 - level)
        np.testing.assert_array_equal(shown("mnist", dark, GREY), shown("mnist", self.drawn(20, 30, 40, 80), GREY))
