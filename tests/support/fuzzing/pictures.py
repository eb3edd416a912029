"""Picture files, straight to the decoder."""

import io

import numpy as np
from PIL import Image

from pixelserve.imaging.decode import decode_file
from pixelserve.imaging.errors import ImageError

from .mutate import Mutator
from .target import Target

_MAX_PIXELS = 1_000_000


def picture_files() -> dict[str, bytes]:
    """Returns a small file of each format that is read, and of some of its kinds, by name."""
    shades = np.linspace(0, 255, 24 * 20 * 3).astype(np.uint8).reshape(24, 20, 3)
    color = Image.fromarray(shades)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": _saved(color, "PNG"),
        "png-palette": _saved(color.convert("P"), "PNG"),
        "png-16-bit": _saved(Image.fromarray(shades[..., 0].astype(np.uint16) * 257), "PNG"),
        "png-animated": _saved(color, "PNG", save_all=True, append_images=[color.rotate(90)]),
        "jpeg": _saved(color, "JPEG", exif=exif),
        "jpeg-progressive": _saved(color, "JPEG", progressive=True),
        "jpeg-cmyk": _saved(color.convert("CMYK"), "JPEG"),
        "bmp": _saved(color, "BMP"),
        "webp": _saved(color, "WEBP"),
        "webp-animated": _saved(color, "WEBP", save_all=True, append_images=[color.rotate(90)]),
        "gif": _saved(color, "GIF", save_all=True, append_images=[color.rotate(90)]),
        "tiff": _saved(color, "TIFF"),
        "tiff-lzw": _saved(color, "TIFF", compression="tiff_lzw"),
        "tiff-float": _saved(Image.fromarray(shades[..., 0].astype(np.float32)), "TIFF"),
        "avif": _saved(color, "AVIF"),
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class PictureTarget(Target):
    """A picture's file: it is decoded, or refused in words."""

    name = "pictures"
    growth_mib = 400

    def __init__(self) -> None:
        self._files = list(picture_files().values())

    def make(self, mutator: Mutator) -> bytes:
        return mutator.octets(mutator.random.choice(self._files), self._files)

    def run(self, data: bytes) -> str:
        try:
            image = decode_file(data, _MAX_PIXELS)
        except ImageError:
            return ""
        return "" if image.width * image.height <= _MAX_PIXELS else f"decoded {image.size}"
