"""What Pillow decodes, made what other programs show of the same file."""

from typing import Any

import numpy as np
from PIL import Image

from . import png, tiff
from .errors import ImageError


def as_shown(image: Any, data: bytes, extents: tuple[int, ...] | None) -> Image.Image:
    """Returns a decoded file as an image of mode L, LA, RGB or RGBA.

    Args:
        image: as Pillow decoded it.
        data: the file's bytes.
        extents: left, top, right and bottom of what the file's first frame fills.

    Raises:
        ImageError: its numbers have no agreed range.
    """
    if image.mode.startswith("I;16"):
        return _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"the picture is a {image.format} of 32-bit or signed numbers, which have no agreed range; "
            f"save it with 8 or 16 bits a channel"
        )
    if image.format == "PNG":
        _mend_transparency(image, data)
    plain = _plain(image)
    if image.format == "BMP" and plain.mode == "RGBA" and plain.getchannel("A").getextrema() == (0, 0):
        # Many programs leave the fourth byte unused, and declare it all the same.
        return plain.convert("RGB")
    if image.format == "GIF" and extents not in (None, (0, 0, *image.size)):
        return _within_canvas(plain.convert("RGBA"), extents)
    return plain


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        # Multiplied by alpha already.
        return image.convert("LA")
    if image.has_transparency_data:
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _mend_transparency(image: Any, data: bytes) -> None:
    transparent = image.info.get("transparency")
    if image.mode == "L" and isinstance(transparent, int):
        image.info["transparency"] = png.transparent_level(data, transparent)
    elif image.mode == "RGB" and isinstance(transparent, tuple):
        image.info["transparency"] = png.transparent_colour(data, transparent)


def _of_16_bits(image: Any) -> Image.Image:
    """Returns the upper 8 bits of grey, and what its file makes transparent."""
    bits, white_is_zero = tiff.grey_bits(image) if image.format == "TIFF" else (16, False)
    values = np.asarray(image)
    grey = (values >> (bits - 8)).astype(np.uint8)
    made = Image.fromarray(255 - grey if white_is_zero else grey)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        made.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return made


def _within_canvas(image: Image.Image, extents: Any) -> Image.Image:
    """Returns a frame that fills a part of its canvas, the rest transparent."""
    canvas = Image.new("RGBA", image.size, (0, 0, 0, 0))
    canvas.paste(image.crop(extents), tuple(extents[:2]))
    return canvas
