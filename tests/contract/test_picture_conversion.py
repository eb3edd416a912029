"""Training and the server make the same pixels of a picture, although neither may import the other."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pixelserve.cli.pictures import SUFFIXES
from pixelserve_server.errors import ImageError
from pixelserve_server.imaging import decode, prepare
from pixelserve_server.settings import Settings
from pixelserve_training.datasets import pictures
from pixelserve_training.errors import DataError

SHAPES = [(28, 28, 1), (32, 32, 3), (24, 40, 3)]


def noise(mode: str, width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width * height)
    pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise("RGB", 40, 25), "JPEG", exif=exif)


def sixteen_bits() -> bytes:
    levels = np.random.default_rng(0).integers(0, 65536, (30, 20)).astype(np.uint16)
    return encoded(Image.fromarray(levels), "PNG")


def transparent_palette() -> bytes:
    return encoded(noise("P", 33, 21), "PNG", transparency=3)


def animation() -> bytes:
    frames = [noise("P", 20, 30), noise("P", 20, 30).rotate(180)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


PICTURES: dict[str, Callable[[], bytes]] = {
    "grey": lambda: encoded(noise("L", 100, 60), "PNG"),
    "grey of the network's size": lambda: encoded(noise("L", 28, 28), "PNG"),
    "colour": lambda: encoded(noise("RGB", 57, 91), "PNG"),
    "colour of the network's size": lambda: encoded(noise("RGB", 32, 32), "BMP"),
    "a line": lambda: encoded(noise("RGB", 300, 1), "PNG"),
    "black and white": lambda: encoded(noise("1", 50, 40), "PNG"),
    "transparent": lambda: encoded(noise("RGBA", 44, 66), "PNG"),
    "transparent grey": lambda: encoded(noise("LA", 44, 66), "PNG"),
    "transparent palette": transparent_palette,
    "16 bits": sixteen_bits,
    "CMYK": lambda: encoded(noise("RGB", 40, 40).convert("CMYK"), "JPEG"),
    "rotated": rotated,
    "WebP": lambda: encoded(noise("RGBA", 70, 50), "WEBP", lossless=True),
    "animation": animation,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PICTURES)
def test_both_make_the_same_pixels(name: str, shape: pictures.Shape) -> None:
    content = PICTURES[name]()
    height, width, channels = shape
    served = prepare.prepare(
        decode.decode_file(content, pictures.MAX_PIXELS), prepare.PictureSpec(height, width, channels)
    )
    learned = pictures.read(content, shape)
    assert learned.dtype == np.uint8
    np.testing.assert_array_equal(learned, served)


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", encoded(noise("RGB", 40, 40), "PNG")[:600], encoded(noise("RGB", 9, 9), "TIFF")],
    ids=["empty", "text", "truncated", "TIFF"],
)
def test_both_refuse_the_same_pictures(content: bytes) -> None:
    with pytest.raises(ImageError):
        decode.decode_file(content, pictures.MAX_PIXELS)
    with pytest.raises(DataError):
        pictures.read(content, (28, 28, 1))


def test_both_know_the_same_kinds_and_the_same_limit() -> None:
    assert pictures.FORMATS == decode.FORMATS
    assert pictures.SUFFIXES == SUFFIXES
    assert Settings.model_fields["max_image_pixels"].default == pictures.MAX_PIXELS
