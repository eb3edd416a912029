"""A decoded picture to the pixels that a model takes: colour, polarity, size. docs/pictures.md states the rules."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

Pixels = npt.NDArray[np.uint8]
Inversion = Literal["never", "always", "auto"]

# What shows through a transparent picture: what most programs show it on.
_GROUND = (255, 255, 255, 255)
_MID_GREY = 127.5
# Paper is never evenly lit. Ink stands out from its own ground by at least this share of the darkest stroke.
_GROUND_SHARE = 0.25
# The few darkest pixels are noise or a speck; the stroke's own level is just below them.
_INK_PERCENTILE = 99.0
# Pixels of the longer side at which the ground is estimated.
_GROUND_RESOLUTION = 64


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
    flat = _flatten(image).convert("L" if spec.channels == 1 else "RGB")
    if _is_to_invert(flat, inversion or spec.inversion):
        flat = _inverted(flat)
    fitted = _fit(flat, spec.width, spec.height)
    return np.asarray(fitted, np.uint8).reshape(spec.height, spec.width, spec.channels)


def _flatten(image: Image.Image) -> Image.Image:
    """Returns the image with what is transparent in it shown on white."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _GROUND), rgba).convert("RGB")
    return image


def _is_to_invert(image: Image.Image, inversion: Inversion) -> bool:
    return inversion == "always" or (inversion == "auto" and _border_level(image) > _MID_GREY)


def _border_level(image: Image.Image) -> float:
    """Returns the median grey of the outermost pixels, 0 to 255."""
    grey = np.asarray(image.convert("L"))
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def _inverted(image: Image.Image) -> Image.Image:
    """Returns the negative; of a grey picture, with its ground taken to black and its strokes to white.

    A photographed sheet is grey, and unevenly so. A model that was trained on clean drawings would see the paper.
    """
    negative = 255 - np.asarray(image)
    if image.mode != "L":
        return Image.fromarray(negative)
    level = negative.astype(np.float32) - _ground(image)
    ink = max(float(np.percentile(level[level > 0], _INK_PERCENTILE)) if (level > 0).any() else 0.0, 1.0)
    floor = _GROUND_SHARE * ink
    cleaned = np.clip((level - floor) / (ink - floor), 0, 1) * 255
    return Image.fromarray(cleaned.astype(np.uint8))


def _ground(image: Image.Image) -> npt.NDArray[np.float32]:
    """Returns the ground's own level in the negative, [height, width]: strokes removed, shadows kept.

    A morphological opening, at low resolution: a minimum over a window that is wider than a stroke removes the strokes,
    a maximum restores the extent of what is left.
    """
    small = ImageOps.invert(image)
    small.thumbnail((_GROUND_RESOLUTION, _GROUND_RESOLUTION), Image.Resampling.BOX)
    window = max(min(small.size) // 3, 3) | 1
    opened = small.filter(ImageFilter.MinFilter(window)).filter(ImageFilter.MaxFilter(window))
    smooth = opened.filter(ImageFilter.GaussianBlur(window / 2))
    return np.asarray(smooth.resize(image.size, Image.Resampling.BILINEAR), np.float32)


def _fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Returns the image at this size: whole and undistorted, the rest filled with the median of its border.

    One that has the size already is left as it is, to the last bit.
    """
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    # Pillow's bilinear filter widens with the reduction, so that nothing is skipped.
    resized = image.resize(size, Image.Resampling.BILINEAR)
    if size == (width, height):
        return resized
    canvas = Image.new(image.mode, (width, height), _border_colour(image))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    pixels = np.atleast_3d(np.asarray(image))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in np.median(border, axis=0))
