"""Preprocesses a decoded picture for a model: colour, inversion, size, numbers. docs/pictures.md states the rules."""

from typing import Any

import numpy.typing as npt
from PIL import Image

from .bands import BAND_PIXELS, bands
from .fit import Levels, crop, fit, letterbox_size
from .invert import oriented
from .spec import PictureSpec
from .values import as_values
from .words import Inversion

# The background of transparent pictures, as in most programs.
_GROUND = (255, 255, 255, 255)
# Per row and column: a filter of two pixels per side has two weights for each of their pixels, in doubles. The
# border's median needs less.
_EDGE_BYTES = 32
# A cubic filter has twice as many.
_CUBIC_EDGE_BYTES = 64
# Per band: with transparency, four pictures of 4 bytes per pixel.
_BAND_BYTES = 20
# A digit is located in pictures of at most ten times the model's side.
_FINDING_SIDES = 100
_FINDING_BYTES = 8
# Per number of a model's picture during computation: the levels as bytes and as floats, and two steps.
_VALUE_BYTES = 16


def prepare(image: Image.Image, spec: PictureSpec, inversion: Inversion | None = None) -> npt.NDArray[Any]:
    """Returns a picture as a model's input.

    Args:
        image: 8 bits per channel, of any size.
        spec: the model's pictures.
        inversion: overrides the model's setting; None keeps it.

    Returns:
        An array of `spec.dtype` and `spec.shape`.
    """
    return as_values(fitted(image, spec, inversion), spec)


def fitted(image: Image.Image, spec: PictureSpec, inversion: Inversion | None = None) -> Levels:
    """Returns a picture as the model sees it, before its levels become numbers.

    Args:
        image, spec, inversion: as for `prepare`.

    Returns:
        uint8 or float32, 0 to 255, [height, width, channels], in the order red, green, blue.
    """
    flat = _flatten(image, "L" if spec.channels == 1 else "RGB")
    return fit(oriented(flat, inversion or spec.inversion), spec)


def preparing_bytes(
    size: tuple[int, int], pixel_bytes: int, spec: PictureSpec, inversion: Inversion | None = None
) -> int:
    """Returns the maximum memory of `prepare`, including the given picture.

    Args:
        size: the picture's width and height.
        pixel_bytes: bytes of one of its pixels.
        spec, inversion: as for `prepare`.
    """
    (width, height), flat_bytes = size, 1 if spec.channels == 1 else 4
    pixels = width * height
    may_invert = (inversion or spec.inversion) != "never"
    # The negative, its background, and their difference; in colour, only the negative.
    copies = pixel_bytes + flat_bytes + (4 if may_invert else 0)
    if not spec.antialias:
        # As an array, which Pillow assembles from copies of its rows.
        copies += 2 * spec.channels
    return copies * pixels + _fitting_bytes(size, flat_bytes, spec) + _BAND_BYTES * min(pixels, BAND_PIXELS)


def _fitting_bytes(size: tuple[int, int], flat_bytes: int, spec: PictureSpec) -> int:
    """Returns the memory for fitting a picture to the model's size, and for its numbers."""
    width, height = size
    fitted_width, fitted_height = spec.width, spec.height
    if spec.fit == "letterbox":
        fitted_width, fitted_height = letterbox_size(size, spec)
    elif spec.fit == "crop":
        found = crop(size, spec)
        if not found.is_strip and spec.antialias:
            fitted_width, fitted_height = found.scaled
    # Pillow resizes rows first, with a table of weights per direction; the result is pasted on a canvas.
    resizing = flat_bytes * (fitted_width * max(height, fitted_height) + fitted_width * fitted_height)
    resizing += flat_bytes * spec.width * spec.height
    edge_bytes = _CUBIC_EDGE_BYTES if spec.resampling == "bicubic" else _EDGE_BYTES
    edges = edge_bytes * (width + height + fitted_width + fitted_height)
    if spec.fit == "mnist":
        resizing += _FINDING_SIDES * _FINDING_BYTES * spec.width * spec.height + 10 * spec.width * height
    return resizing + edges + _VALUE_BYTES * spec.width * spec.height * spec.channels


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """Returns the image in a mode without transparency, composited on white."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    flat = Image.new(mode, image.size)
    for box in bands(image.size):
        flat.paste(_on_white(image.crop(box)).convert(mode), box)
    return flat


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _GROUND), rgba).convert("RGB")
    return image
