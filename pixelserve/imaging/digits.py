"""Places drawn digits like MNIST's.

MNIST's digits are scaled in proportion to a box of 20 × 20 pixels with an anti-aliasing filter, and placed in 28 × 28
pixels with their centre of mass in the middle (LeCun, Cortes and Burges, the data set's description).
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from .border import border_level

# Share of the model's side.
_BOX_SHARE = 20 / 28
# A digit is located at no more than this many times the model's side, so specks smaller than a stroke fade.
_FINDING_SCALE = 10
# A pixel is ink above this share of the brightest one.
_INK_SHARE = 0.2


def centred(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns a light drawing on a dark background at this size, placed like MNIST's digits.

    Args:
        image: mode L, of any size.
        size: width and height of the result.

    Returns:
        Mode L, on black; all black if nothing is drawn.
    """
    black = Image.new("L", size)
    found = _ink_box(image, size)
    if found is None:
        return black
    side = min(size) * _BOX_SHARE
    scale = side / max(found[2] - found[0], found[3] - found[1])
    width, height = (max(round((found[at + 2] - found[at]) * scale), 1) for at in (0, 1))
    ink = _above_ground(image.resize((width, height), Image.Resampling.BOX, found), border_level(image))
    black.paste(Image.fromarray(ink), _place(ink, size))
    return black


def _ink_box(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Returns the drawing's bounding box, in the image's pixels, or None if nothing is drawn."""
    small = image.copy()
    small.thumbnail((size[0] * _FINDING_SCALE, size[1] * _FINDING_SCALE), Image.Resampling.BOX)
    levels = _above_ground(small, border_level(image))
    most = int(levels.max())
    if not most:
        return None
    rows, columns = (np.flatnonzero((levels > _INK_SHARE * most).any(axis=axis)) for axis in (1, 0))
    across, down = image.width / small.width, image.height / small.height
    return columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down


def _above_ground(image: Image.Image, ground: float) -> npt.NDArray[np.uint8]:
    levels = np.asarray(image, np.int16) - round(ground)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _place(ink: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[int, int]:
    """Returns left and top for a drawing with its centre of mass in the middle, kept within the picture."""
    total = max(float(ink.sum()), 1.0)
    height, width = ink.shape
    middles = (
        float(ink.sum(axis=0) @ np.arange(width)) / total + 0.5,
        float(ink.sum(axis=1) @ np.arange(height)) / total + 0.5,
    )
    left, top = (
        int(np.clip(round(full / 2 - middle), 0, full - drawn))
        for full, middle, drawn in zip(size, middles, (width, height), strict=True)
    )
    return left, top
