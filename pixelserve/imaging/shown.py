"""Converts Pillow's decoded pictures to what other programs show for the same file."""

from typing import Any

import numpy as np
from PIL import Image

from . import png, tiff
from .bands import bands
from .errors import ImageError


def check(image: Any) -> None:
    """Checks an opened file.

    Raises:
        ImageError: its numbers have no agreed range, or its palette is missing.
    """
    if image.mode == "P" and image.palette is None:
        raise ImageError(f"the picture is a {image.format} with a palette, which is missing; send the whole file")
    if image.mode in ("I", "F"):
        raise ImageError(
            f"the picture is a {image.format} of 32-bit or signed numbers, which have no agreed range; "
            f"save it with 8 or 16 bits per channel"
        )


def as_shown(image: Any, data: bytes, extents: tuple[int, ...] | None) -> Image.Image:
    """Returns a decoded file as an image of mode L, LA, RGB or RGBA.

    Args:
        image: as Pillow decoded it.
        data: the file's bytes.
        extents: left, top, right and bottom of the first frame.
    """
    if image.mode.startswith("I;16"):
        return _of_16_bits(image)
    if image.format == "PNG":
        _mend_transparency(image, data)
    if image.format == "GIF" and extents not in (None, (0, 0, *image.size)):
        return _within_canvas(image.convert("RGBA"), extents)
    plain = _plain(image)
    if image.format == "BMP" and plain.mode == "RGBA" and plain.getchannel("A").getextrema() == (0, 0):
        # Many programs declare the fourth byte but leave it unused.
        return plain.convert("RGB")
    return plain


def shown_bytes(image: Any) -> tuple[int, int]:
    """Returns the bytes per pixel that `as_shown` needs besides a decoded picture, and those of its result.

    Args:
        image: as Pillow opened it, decoded or not.
    """
    is_grey = image.mode in ("1", "L") or image.mode.startswith("I;16")
    is_transparent = image.has_transparency_data
    # The result for these two formats depends on their pixels.
    is_known = image.format not in ("BMP", "GIF")
    is_kept = image.mode in ("LA", "RGBA") or (image.mode in ("L", "RGB") and not is_transparent)
    after = 1 if is_grey and is_known and not is_transparent else 4
    return 0 if is_kept and is_known else after, after


def pixel_bytes(mode: str) -> int:
    """Returns Pillow's bytes of memory per pixel."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        # Premultiplied by alpha.
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
    """Returns the upper 8 bits of grey, and the file's transparency."""
    bits, white_is_zero = tiff.grey_bits(image) if image.format == "TIFF" else (16, False)
    transparent = image.info.get("transparency")
    has_alpha = isinstance(transparent, int)
    made = Image.new("LA" if has_alpha else "L", image.size)
    for box in bands(image.size):
        values = np.asarray(image.crop(box))
        grey = (values >> (bits - 8)).astype(np.uint8)
        band = Image.fromarray(255 - grey if white_is_zero else grey)
        if has_alpha:
            band.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        made.paste(band, box)
    return made


def _within_canvas(image: Image.Image, extents: Any) -> Image.Image:
    """Returns a frame placed on its canvas, the rest transparent."""
    (left, top, right, bottom), (width, height) = extents, image.size
    for box in ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)):
        image.paste((0, 0, 0, 0), box)
    return image
