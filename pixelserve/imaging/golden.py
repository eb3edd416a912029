"""Makes and replays a version's golden picture.

Golden samples are tensors, so they do not cover the steps from a file to a tensor: another release of Pillow or of this
package could change the model's input. The server therefore prepares the picture again before the version serves. The
card's `picture` is the declaration that it was prepared for.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..card import CardError
from ..golden import GoldenMismatchError, largest_difference
from ..golden_picture import GOLDEN_PICTURE_BYTES, REMEDY, GoldenPicture
from .decode import decode_file
from .errors import ImageError
from .prepare import prepare
from .spec import PictureSpec
from .values import as_values

MOST_LEVELS = 1.0
"""Maximum accepted difference, in levels of 255: the effect of a different rounding order."""

# Larger than most inputs, because filters differ more when reducing; small enough to add little to a version.
_LEAST_SIDE, _MOST_SIDE = 48, 320
_MOST_PIXELS = 1 << 20
_OVERHEAD_BYTES = 4096


def make(spec: PictureSpec) -> GoldenPicture | None:
    """Returns a golden picture for a model, or None if its tensor would be too large to be read."""
    buffer = io.BytesIO()
    _drawn(spec).save(buffer, "PNG", optimize=True)
    file = buffer.getvalue()
    if spec.nbytes + len(file) + _OVERHEAD_BYTES > GOLDEN_PICTURE_BYTES:
        return None
    return GoldenPicture(file, _prepared(file, spec))


def replay(golden: GoldenPicture, spec: PictureSpec) -> None:
    """Prepares the picture again and compares it with the golden tensor.

    Raises:
        CardError: the file is not a picture, or the tensor does not fit the input.
        GoldenMismatchError: a number differs by more than `MOST_LEVELS`.
    """
    if (golden.tensor.shape, golden.tensor.dtype) != (spec.shape, spec.dtype):
        raise CardError(
            f"the golden picture's tensor is {golden.tensor.dtype} {list(golden.tensor.shape)}, but the model's input "
            f"is {spec.dtype} {list(spec.shape)}; {REMEDY}"
        )
    try:
        found = _prepared(golden.file, spec)
    except ImageError as error:
        raise CardError(f"the golden picture: {error}; {REMEDY}") from error
    levels = largest_difference(*(_as_levels(tensor, spec) for tensor in (found, golden.tensor)))
    # A difference of one level is rounded like the two numbers: in float16, by up to a third of a level.
    if levels > MOST_LEVELS + _rounding(found, spec):
        raise GoldenMismatchError(
            f"the golden picture differs from the export by up to {levels:.3g} of 255 levels; at most "
            f"{MOST_LEVELS:g} is accepted: pictures are decoded or resized differently here; use the Pillow release "
            f"in the card, or export the model again"
        )


def _prepared(file: bytes, spec: PictureSpec) -> npt.NDArray[Any]:
    return prepare(decode_file(file, _MOST_PIXELS), spec)


def _as_levels(tensor: npt.NDArray[Any], spec: PictureSpec) -> npt.NDArray[np.float32]:
    """Returns a tensor's numbers in levels of 255, apart from a constant per channel."""
    with np.errstate(over="ignore"):
        return tensor.astype(np.float32) / _level(spec)


def _level(spec: PictureSpec) -> npt.NDArray[np.float32]:
    """Returns the change per level of each channel's numbers, in an array that broadcasts to the tensor's."""
    black, white = (as_values(np.full((1, 1, spec.channels), level, np.uint8), spec) for level in (0, 255))
    # With a large standard deviation, all levels may be the same float16 number.
    return np.maximum((white.astype(np.float32) - black.astype(np.float32)) / 255, np.finfo(np.float32).tiny)


def _rounding(tensor: npt.NDArray[Any], spec: PictureSpec) -> float:
    """Returns the difference in levels that the numbers' precision may explain."""
    precision = np.finfo(np.float16 if tensor.dtype == np.float16 else np.float32).eps
    return float(2 * precision * np.abs(_as_levels(tensor, spec)).max())


def _drawn(spec: PictureSpec) -> Image.Image:
    """Returns gradients and edges on a light background, not in the model's proportions; deterministic."""
    width = min(max(spec.width * 9 // 4, _LEAST_SIDE + 16), _MOST_SIDE)
    height = min(max(spec.height * 7 // 4, _LEAST_SIDE), _MOST_SIDE * 3 // 4)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([255 - 40 * across, 235 - 30 * down, 250 - 25 * across * down], axis=-1)
    box = (abs(across - 0.4) < 0.22) & (abs(down - 0.55) < 0.3)
    pixels[box] = np.stack([20 + 90 * down, 160 * across, 90 * (1 - down)], axis=-1)[box]
    stripes = box & ((across * 24 + down * 9).astype(int) % 3 == 0)
    pixels[stripes] = (10, 10, 40)
    pixels[(across - 0.8) ** 2 + (down - 0.25) ** 2 < 0.012] = (200, 30, 20)
    return Image.fromarray(pixels.astype(np.uint8))
