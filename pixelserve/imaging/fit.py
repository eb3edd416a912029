"""Fits pictures of any size to the model's size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .border import border_colour
from .digits import centred
from .spec import PictureSpec

Levels = npt.NDArray[Any]
"""Levels of 0 to 255, uint8 or float32 [height, width, channels]."""
Size = tuple[int, int]
"""Width and height."""
Box = tuple[float, float, float, float]

# For a picture that is resized whole before its centre is cropped.
_MOST_ASPECT = 4
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}


def fit(image: Image.Image, spec: PictureSpec) -> Levels:
    """Returns a picture at the model's size.

    A picture of that size is returned unchanged, unless it is cropped.

    Args:
        image: mode L or RGB, to match the model's channels.
        spec: the model's pictures.

    Returns:
        uint8 [height, width, channels]; float32 if the filter is not Pillow's, to avoid rounding twice.
    """
    size = spec.width, spec.height
    if image.size == size and spec.resize in (None, spec.width):
        return _levels(image)
    match spec.fit:
        case "stretch":
            return _resized(image, size, (0, 0, *image.size), spec)
        case "crop":
            return _cropped(image, spec)
        case "mnist":
            return _levels(centred(image, size))
        case _:
            return _letterboxed(image, spec)


def letterbox_size(size: Size, spec: PictureSpec) -> Size:
    """Returns the size of the whole picture, in proportion, within the model's size."""
    scale = min(spec.width / size[0], spec.height / size[1])
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


@dataclass(frozen=True)
class Crop:
    """A centre crop of a picture resized in proportion."""

    scaled: Size
    """Width and height of the whole picture, resized."""
    left: int
    """Pixels to the left of the centre."""
    top: int
    """Pixels above it."""

    @property
    def is_strip(self) -> bool:
        """Whether the picture is too long to resize it whole for its centre."""
        return max(self.scaled) > _MOST_ASPECT * min(self.scaled)

    def part(self, size: Size, spec: PictureSpec) -> Box:
        """Returns the crop's box in a picture of this size: left, top, right, bottom."""
        across, down = size[0] / self.scaled[0], size[1] / self.scaled[1]
        right, bottom = (self.left + spec.width) * across, (self.top + spec.height) * down
        return self.left * across, self.top * down, min(right, size[0]), min(bottom, size[1])


def crop(size: Size, spec: PictureSpec) -> Crop:
    """Returns the resize and crop for a picture of this size.

    Like torchvision's Resize and CenterCrop: the shorter side to `resize` pixels, the longer one in proportion,
    rounded down; then the centre.
    """
    width, height = size
    if spec.height == spec.width:
        shorter = spec.resize or spec.width
        longer = int(shorter * max(size) / min(size))
        scaled = (shorter, longer) if width <= height else (longer, shorter)
    else:
        scale = max(spec.width / width, spec.height / height)
        scaled = max(round(width * scale), spec.width), max(round(height * scale), spec.height)
    return Crop(scaled, round((scaled[0] - spec.width) / 2), round((scaled[1] - spec.height) / 2))


def _cropped(image: Image.Image, spec: PictureSpec) -> Levels:
    found = crop(image.size, spec)
    if found.is_strip or not spec.antialias:
        return _resized(image, (spec.width, spec.height), found.part(image.size, spec), spec)
    # Pillow's filters round between rows and columns, so resizing only the centre would give a different result.
    whole = image.resize(found.scaled, _FILTERS[spec.resampling])
    return _levels(whole.crop((found.left, found.top, found.left + spec.width, found.top + spec.height)))


def _letterboxed(image: Image.Image, spec: PictureSpec) -> Levels:
    size = letterbox_size(image.size, spec)
    resized = _resized(image, size, (0, 0, *image.size), spec)
    if size == (spec.width, spec.height):
        return resized
    ground = spec.background or border_colour(image)
    if spec.channels == 1 and len(ground) == 3:
        ground = (round(0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]),)
    canvas = np.empty((spec.height, spec.width, spec.channels), resized.dtype)
    canvas[:] = ground
    left, top = (spec.width - size[0]) // 2, (spec.height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = resized
    return canvas


def _resized(image: Image.Image, size: Size, box: Box, spec: PictureSpec) -> Levels:
    """Returns a part of a picture at this size."""
    if spec.resampling == "bilinear" and not spec.antialias:
        return _interpolated(image, size, box)
    return _levels(image.resize(size, _FILTERS[spec.resampling], box))


def _interpolated(image: Image.Image, size: Size, box: Box) -> Levels:
    """Resizes a part of a picture by bilinear interpolation of four pixels, which skips pixels when reducing.

    Like TensorFlow's resize without antialias: half-pixel centres, and edge pixels repeated beyond the edge.
    """
    pixels = _levels(image)
    left, right, across = _neighbours(size[0], box[0], box[2], image.width)
    above, below, down = _neighbours(size[1], box[1], box[3], image.height)
    across, down = across[None, :, None], down[:, None, None]
    rows = [
        pixels[at[:, None], left].astype(np.float32) * (1 - across) + pixels[at[:, None], right] * across
        for at in (above, below)
    ]
    blended = rows[0] * (1 - down) + rows[1] * down
    return np.asarray(blended, np.float32)


def _neighbours(
    count: int, start: float, end: float, most: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Returns the two neighbours of each of `count` points from start to end, and the second one's weight."""
    at = start + (np.arange(count) + 0.5) * ((end - start) / count) - 0.5
    before = np.floor(at)
    weight = (at - before).astype(np.float32)
    first, second = (np.clip(each, 0, most - 1).astype(np.intp) for each in (before, before + 1))
    return first, second, weight


def _levels(image: Image.Image) -> Levels:
    return np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
