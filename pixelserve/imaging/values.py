"""Levels of pixels made the numbers that a model takes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .spec import PictureSpec

Values = npt.NDArray[Any]


def as_values(levels: Values, spec: PictureSpec) -> Values:
    """Returns a picture's levels in the model's type, scale and layout.

    Args:
        levels: uint8 or float32, 0 to 255, [height, width, channels] in the order red, green, blue.
        spec: what the model takes.

    Returns:
        An array of `spec.dtype` and `spec.shape`.
    """
    if spec.is_bgr:
        levels = levels[..., ::-1]
    if spec.dtype == np.uint8:
        numbers = as_levels(levels)
    else:
        numbers = _normalised(levels.astype(np.float32), spec).astype(spec.dtype, copy=False)
    return numbers if spec.layout == "nhwc" else np.ascontiguousarray(numbers.transpose(2, 0, 1))


def as_levels(levels: Values) -> Values:
    """Returns levels rounded to uint8."""
    return levels if levels.dtype == np.uint8 else np.rint(levels).astype(np.uint8)


def _normalised(levels: Values, spec: PictureSpec) -> Values:
    """Returns the numbers of levels, which are changed in place; in the order in which torchvision computes them."""
    if spec.normalisation is not None:
        levels /= np.float32(255)
        levels -= np.array(spec.normalisation.mean, np.float32)
        levels /= np.array(spec.normalisation.std, np.float32)
    return levels
