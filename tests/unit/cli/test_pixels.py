import pytest
import typer

from pixelserve.cli import pixels
from pixelserve.cli.pixels import PixelScale


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/255", PixelScale(1 / 255)),
        ("0.5", PixelScale(0.5)),
        ("1/127.5-1", PixelScale(1 / 127.5, -1)),
        ("2/255-1", PixelScale(2 / 255, -1)),
        ("1e-2+0.5", PixelScale(0.01, 0.5)),
        ("none", PixelScale(None)),
    ],
)
def test_a_pixel_scale_is_a_factor_with_an_offset_or_none(text: str, expected: PixelScale) -> None:
    assert pixels.pixel_scale(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1/0", "half", "1/255-", "-1+1/255", "nan", "1//255", "9e999"])
def test_a_pixel_scale_that_is_not_above_0_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number above 0, such as 1/255"):
        pixels.pixel_scale(text)


def test_a_tolerance_has_no_offset() -> None:
    assert pixels.number("1/1000") == 0.001
    assert pixels.number("1e-5") == 1e-5
    with pytest.raises(typer.BadParameter):
        pixels.number("1/255-1")


@pytest.mark.parametrize(
    ("text", "expected"), [("224", (224, 224)), ("180x240", (180, 240)), ("28x28x1", (28, 28, 1)), ("8x8x3", (8, 8, 3))]
)
def test_a_size_is_one_number_or_height_and_width_or_these_and_channels(text: str, expected: tuple[int, ...]) -> None:
    assert pixels.size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "28x0", "28x28x4", "28x28x1x1", "x28", "28 x 28", "123456"])
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="HEIGHTxWIDTH"):
        pixels.size(text)
