"""Training and the server make the same pixels from an image."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging import decode, prepare
from pixelserve.imaging.spec import PictureSpec
from pixelserve_server.settings import Settings
from pixelserve_training.datasets import own

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
    "AVIF": lambda: encoded(noise("RGBA", 70, 50), "AVIF"),
    "TIFF": lambda: encoded(noise("RGB", 70, 50), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_training_learns_the_pixels_that_the_server_makes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    served = {}
    spec = PictureSpec(*shape)
    for name, make in PICTURES.items():
        content = make()
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").write_bytes(content)
        (tmp_path / "pets" / name / "b.png").write_bytes(content)
        served[name] = prepare.prepare(decode.decode_file(content, decode.MAX_PIXELS), spec)
    learned = own.load(tmp_path / "pets", PictureSpec(*shape), skip_broken=False)
    assert set(learned.labels) == set(PICTURES)
    for split in (learned.train, learned.test):
        for pixels, label in zip(split.inputs, split.targets, strict=True):
            np.testing.assert_array_equal(pixels, served[learned.labels[label]], err_msg=learned.labels[label])


def test_training_and_the_server_have_the_same_limit() -> None:
    assert Settings.model_fields["max_image_pixels"].default == decode.MAX_PIXELS
