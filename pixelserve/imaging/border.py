"""A picture's outermost pixels, which show its background."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from .bands import BAND_PIXELS


def border_level(image: Image.Image) -> float:
    """Returns the median grey of the outermost pixels, 0 to 255."""
    (level,) = _medians(_border(image, "L"))
    return level


def border_colour(image: Image.Image) -> tuple[int, ...]:
    """Returns the median level of each channel of the outermost pixels; the image has mode L or RGB."""
    return tuple(map(int, _medians(_border(image, image.mode))))


def _border(image: Image.Image, mode: str) -> npt.NDArray[np.uint8]:
    """Returns the outermost pixels, corners twice, [pixels, channels], in mode L or RGB."""
    width, height = image.size
    if width * height <= BAND_PIXELS:
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    else:
        boxes = (0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)
        edges = [np.asarray(image.crop(box).convert(mode)) for box in boxes]
    return np.concatenate([edge.reshape(-1, 1 if mode == "L" else 3) for edge in edges])


def _medians(pixels: npt.NDArray[np.uint8]) -> list[float]:
    """Returns the median level of each channel of pixels, [pixels, channels]."""
    # A stable sort of bytes counts them: 1 µs for a digit's border, of which np.median takes 6.
    ranked = np.sort(pixels, axis=0, kind="stable")
    low, high = ranked[(len(ranked) - 1) // 2].tolist(), ranked[len(ranked) // 2].tolist()
    return [(below + above) / 2 for below, above in zip(low, high, strict=True)]
