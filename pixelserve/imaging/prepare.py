"""A decoded picture to the pixels that a model takes: colour, polarity, size. docs/pictures.md states the rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from .bands import BAND_PIXELS, Box, bands

Pixels = npt.NDArray[np.uint8]
Inversion = Literal["never", "always", "auto"]

# What shows through a transparent picture: what most programs show it on.
_GROUND = (255, 255, 255, 255)
_MID_GREY = 127.5
# Paper is never evenly lit. Ink stands out from its own ground by at least this share of the darkest stroke.
_GROUND_SHARE = 0.25
# The few darkest pixels are noise or a speck; the stroke's own level is just below them.
_INK_SHARE = 0.99
_LEVELS = np.arange(-255, 256, dtype=np.float32)
# Pixels of the longer side at which the ground is estimated.
_GROUND_RESOLUTION = 64
# Of a row and a column: a filter of two pixels a side has two weights for each of their pixels, in doubles. The
# border's median takes less.
_EDGE_BYTES = 32
# What is in hand of a part: with transparency, four pictures of 4 bytes a pixel.
_BAND_BYTES = 20


@dataclass(frozen=True)
class PictureSpec:
    """The pictures that a model takes."""

    height: int
    """Pixels from top to bottom."""
    width: int
    """Pixels from left to right."""
    channels: int
    """1: grey; 3: red, green, blue."""
    inversion: Inversion = "never"
    """Whether a dark drawing on a light ground is turned into a light one on a dark ground."""


def prepare(image: Image.Image, spec: PictureSpec, inversion: Inversion | None = None) -> Pixels:
    """Returns a picture as a model takes it.

    Args:
        image: 8 bits a channel, of any size.
        spec: what the model takes.
        inversion: in place of the model's own; None: the model's.

    Returns:
        uint8 [height, width, channels].
    """
    flat = _flatten(image, "L" if spec.channels == 1 else "RGB")
    if _is_to_invert(flat, inversion or spec.inversion):
        flat = _inverted(flat)
    fitted = _fit(flat, spec.width, spec.height)
    return np.asarray(fitted, np.uint8).reshape(spec.height, spec.width, spec.channels)


def preparing_bytes(
    size: tuple[int, int], pixel_bytes: int, spec: PictureSpec, inversion: Inversion | None = None
) -> int:
    """Returns the most memory that `prepare` takes, the picture that it is given included.

    Args:
        size: the picture's width and height.
        pixel_bytes: bytes of one of its pixels.
        spec, inversion: as `prepare` takes them.
    """
    (width, height), flat_bytes = size, 1 if spec.channels == 1 else 4
    pixels = width * height
    may_invert = (inversion or spec.inversion) != "never"
    # The negative, its ground, and what becomes of the two; in colour, just the negative.
    copies = pixel_bytes + flat_bytes + (4 if may_invert else 0)
    fitted_width, fitted_height = _fitted_size(size, spec.width, spec.height)
    # Pillow resizes rows first, and has a table of weights for both directions; the result is put on a canvas.
    resizing = flat_bytes * (fitted_width * height + 2 * spec.width * spec.height)
    edges = _EDGE_BYTES * (width + height + fitted_width + fitted_height)
    return copies * pixels + resizing + edges + _BAND_BYTES * min(pixels, BAND_PIXELS)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """Returns the image in a mode without transparency, with what is transparent in it shown on white."""
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


def _is_to_invert(image: Image.Image, inversion: Inversion) -> bool:
    return inversion == "always" or (inversion == "auto" and _border_level(image) > _MID_GREY)


def _border_level(image: Image.Image) -> float:
    """Returns the median grey of the outermost pixels, 0 to 255."""
    return float(np.median(_border(image, "L")))


def _border(image: Image.Image, mode: str) -> Pixels:
    """Returns the outermost pixels, corners twice, [pixels, channels], in mode L or RGB."""
    width, height = image.size
    if width * height <= BAND_PIXELS:
        pixels = np.asarray(image.convert(mode))
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    else:
        boxes = (0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)
        edges = [np.asarray(image.crop(box).convert(mode)) for box in boxes]
    return np.concatenate([edge.reshape(-1, 1 if mode == "L" else 3) for edge in edges])


def _ranked(counts: npt.NDArray[np.int64], share: float, rounded: Callable[[float], float]) -> int:
    """Returns the level at this share of the way through all levels in their order, of which there are so many each."""
    rank = rounded((counts.sum() - 1) * share)
    return int(np.searchsorted(np.cumsum(counts), rank, side="right"))


def _inverted(image: Image.Image) -> Image.Image:
    """Returns the negative; of a grey picture, with its ground taken to black and its strokes to white.

    A photographed sheet is grey, and unevenly so. A model that was trained on clean drawings would see the paper.
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
    """Returns how far a part of the negative is above its ground, -255 to 255."""
    return np.asarray(negative.crop(box), np.int16) - np.asarray(ground.crop(box), np.int16)


def _cleaned(counts: npt.NDArray[np.int64]) -> Pixels:
    """Returns what becomes of each level from -255 to 255, of which a picture has so many each."""
    inked = np.where(_LEVELS > 0, counts, 0)
    ink = 1.0
    if inked.any():
        position = (inked.sum() - 1) * _INK_SHARE
        low, high = (_ranked(inked, _INK_SHARE, rounded) - 255 for rounded in (np.floor, np.ceil))
        ink = low + (high - low) * float(position - np.floor(position))
    floor = _GROUND_SHARE * ink
    cleaned = np.clip((_LEVELS - np.float32(floor)) / np.float32(ink - floor), 0, 1) * 255
    return np.asarray(cleaned, np.uint8)


def _ground(negative: Image.Image) -> Image.Image:
    """Returns the ground's own level in the negative: strokes removed, shadows kept.

    A morphological opening, at low resolution: a minimum over a window that is wider than a stroke removes the strokes,
    a maximum restores the extent of what is left.
    """
    small = negative.copy()
    small.thumbnail((_GROUND_RESOLUTION, _GROUND_RESOLUTION), Image.Resampling.BOX)
    window = max(min(small.size) // 3, 3) | 1
    opened = small.filter(ImageFilter.MinFilter(window)).filter(ImageFilter.MaxFilter(window))
    smooth = opened.filter(ImageFilter.GaussianBlur(window / 2))
    return smooth.resize(negative.size, Image.Resampling.BILINEAR)


def _fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Returns the image at this size: whole and undistorted, the rest filled with the median of its border.

    One that has the size already is left as it is, to the last bit.
    """
    if image.size == (width, height):
        return image
    size = _fitted_size(image.size, width, height)
    # Pillow's bilinear filter widens with the reduction, so that nothing is skipped.
    resized = image.resize(size, Image.Resampling.BILINEAR)
    if size == (width, height):
        return resized
    canvas = Image.new(image.mode, (width, height), _border_colour(image))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _fitted_size(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    scale = min(width / size[0], height / size[1])
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    return tuple(int(level) for level in np.median(_border(image, image.mode), axis=0))
