"""Converts pixel levels to a model's numbers, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .spec import PictureSpec

_MOST_LEVEL = 255
# How far rounding may push a level out of its range.
_ROUNDING = 0.5

Values = npt.NDArray[Any]


def as_values(levels: Values, spec: PictureSpec) -> Values:
    """Returns a picture's levels in the model's type, scale and layout.

    Args:
        levels: uint8 or float32, 0 to 255, [height, width, channels] in the order red, green, blue.
        spec: the model's pictures.

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


def shown_levels(values: Values, spec: PictureSpec) -> Values | None:
    """Returns the pictures behind a model's numbers: the inverse of `as_values`, up to rounding.

    Args:
        values: one or several pictures as the model's input, in any shape divisible by `spec.shape`.
        spec: the model's pictures.

    Returns:
        uint8 [pictures, height, width, channels] in the order red, green, blue, or None if the numbers are not
        pictures.
    """
    if values.dtype != spec.dtype or values.size % int(np.prod(spec.shape)):
        return None
    numbers = values.reshape(-1, *spec.shape)
    numbers = numbers if spec.layout == "nhwc" else numbers.transpose(0, 2, 3, 1)
    if spec.dtype != np.uint8:
        if spec.normalisation is not None:
            mean, std = (np.array(each, np.float64) for each in (spec.normalisation.mean, spec.normalisation.std))
            numbers = (numbers * std + mean) * _MOST_LEVEL
        # NaN is in no range.
        if not ((numbers >= -_ROUNDING) & (numbers <= _MOST_LEVEL + _ROUNDING)).all():
            return None
        numbers = np.rint(numbers).clip(0, _MOST_LEVEL).astype(np.uint8)
    return numbers[..., ::-1] if spec.is_bgr else numbers


def _normalised(levels: Values, spec: PictureSpec) -> Values:
    """Normalises levels in place, in torchvision's order of operations."""
    if spec.normalisation is not None:
        levels /= np.float32(255)
        levels -= np.array(spec.normalisation.mean, np.float32)
        levels /= np.array(spec.normalisation.std, np.float32)
    return levels
