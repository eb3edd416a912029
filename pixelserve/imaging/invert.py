"""Inverts dark drawings on a light background."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from .bands import Box, bands
from .border import border_level
from .words import Inversion

_MID_GREY = 127.5
# Paper is never evenly lit. Ink differs from its local background by at least this share of the darkest stroke.
_GROUND_SHARE = 0.25
# The few darkest pixels are noise or a speck; the stroke's level is just below them.
_INK_SHARE = 0.99
_LEVELS = np.arange(-255, 256, dtype=np.float32)
# Longer side, in pixels, for estimating the background.
_GROUND_RESOLUTION = 64


def oriented(image: Image.Image, inversion: Inversion) -> Image.Image:
    """Returns the image, or its negative for `always`, or for `auto` if its border is light."""
    is_to_invert = inversion == "always" or (inversion == "auto" and border_level(image) > _MID_GREY)
    return _inverted(image) if is_to_invert else image


def _inverted(image: Image.Image) -> Image.Image:
    """Returns the negative; of a grey picture, with its background set to black and its strokes to white.

    A photographed sheet is unevenly grey; a model trained on clean drawings would see the paper.
    """
    negative = ImageOps.invert(image)
    if image.mode != "L":
        return negative
    ground = _ground(negative)
    counts = sum(np.bincount((_level(negative, ground, box) + 255).ravel(), minlength=511) for box in bands(image.size))
    table = _cleaned(np.asarray(counts))
    cleaned = Image.new("L", image.size)
    for box in bands(image.size):
        cleaned.paste(Image.fromarray(table[_level(negative, ground, box) + 255]), box)
    return cleaned


def _level(negative: Image.Image, ground: Image.Image, box: Box) -> npt.NDArray[np.int16]:
    """Returns a band of the negative minus its background, -255 to 255."""
    return np.asarray(negative.crop(box), np.int16) - np.asarray(ground.crop(box), np.int16)


def _cleaned(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Returns the new level for each level from -255 to 255, from the picture's histogram."""
    inked = np.where(_LEVELS > 0, counts, 0)
    ink = 1.0
    if inked.any():
        position = (inked.sum() - 1) * _INK_SHARE
        low, high = (_ranked(inked, _INK_SHARE, rounded) - 255 for rounded in (np.floor, np.ceil))
        ink = low + (high - low) * float(position - np.floor(position))
    floor = _GROUND_SHARE * ink
    cleaned = np.clip((_LEVELS - np.float32(floor)) / np.float32(ink - floor), 0, 1) * 255
    return np.asarray(cleaned, np.uint8)


def _ranked(counts: npt.NDArray[np.int64], share: float, rounded: Callable[[float], float]) -> int:
    """Returns the level at this quantile of a histogram."""
    rank = rounded((counts.sum() - 1) * share)
    return int(np.searchsorted(np.cumsum(counts), rank, side="right"))


def _ground(negative: Image.Image) -> Image.Image:
    """Returns the background's level in the negative: strokes removed, shadows kept.

    A morphological opening at low resolution: a minimum over a window wider than a stroke removes the strokes, and a
    maximum restores the extent of the rest.
    """
    small = negative.copy()
    small.thumbnail((_GROUND_RESOLUTION, _GROUND_RESOLUTION), Image.Resampling.BOX)
    window = max(min(small.size) // 3, 3) | 1
    opened = small.filter(ImageFilter.MinFilter(window)).filter(ImageFilter.MaxFilter(window))
    smooth = opened.filter(ImageFilter.GaussianBlur(window / 2))
    return smooth.resize(negative.size, Image.Resampling.BILINEAR)
