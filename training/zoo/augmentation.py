"""Image augmentation that Keras does not have."""

import math
from functools import cache
from typing import Any

from .. import frameworks


def random_affine(
    *, rotation_degrees: float, shear_degrees: float, zoom: float, shift_pixels: float, share: float
) -> Any:
    """Returns a Keras layer that rotates, shears, zooms and shifts each image [H, W, C] of a batch in one step.

    Keras's layers do one of these each, and each blurs slightly: a network trained with four of them classified 99.3 %
    of blurred held-out digits correctly, but 98.8 % of the sharp ones that it is meant for.

    Args:
        rotation_degrees: maximum angle in either direction.
        shear_degrees: maximum shear along x in either direction.
        zoom: maximum change of size in either direction, a fraction of 1.
        shift_pixels: maximum shift along each axis in either direction.
        share: the share of images that change, a fraction of 1; the others stay sharp.
    """
    return _layer_class()(
        rotation=math.radians(rotation_degrees),
        shear=math.radians(shear_degrees),
        zoom=zoom,
        shift=shift_pixels,
        share=share,
    )


@cache
def _layer_class() -> Any:
    """Returns the layer's class, which requires Keras."""
    keras = frameworks.load().keras
    ops, base = keras.ops, keras.layers.Layer

    class RandomAffine(base):  # type: ignore[misc,valid-type]  # Keras has no types
        def __init__(self, *, rotation: float, shear: float, zoom: float, shift: float, share: float) -> None:
            super().__init__()
            self._ranges = (rotation, shear, zoom, zoom, shift, shift)
            self._share = share
            self._seeds = keras.random.SeedGenerator()

        def call(self, images: Any, training: bool = False) -> Any:
            if not training:
                return images
            count, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
            is_changed = keras.random.uniform((count,), seed=self._seeds) < self._share
            angle, shear, *rest = (ops.where(is_changed, drawn, 0.0) for drawn in self._draw(count))
            transforms = _transforms(ops, angle, shear, rest[:2], rest[2:], ((width - 1) / 2, (height - 1) / 2))
            return ops.image.affine_transform(images, transforms, interpolation="bilinear", fill_mode="constant")

        def _draw(self, count: Any) -> list[Any]:
            return [keras.random.uniform((count,), -most, most, seed=self._seeds) for most in self._ranges]

    return RandomAffine


def _transforms(
    ops: Any, angle: Any, shear: Any, zoom: list[Any], shift: list[Any], centre: tuple[float, float]
) -> Any:
    """Returns rows of eight numbers for `keras.ops.image.affine_transform`.

    They map each output pixel (x, y) to the input's: a rotation, a shear and a zoom about the centre, then a shift.

    Args:
        ops: Keras's.
        angle: rotation, radians [N].
        shear: shear along x, radians [N].
        zoom: change of size along x and y, fractions [N].
        shift: shift along x and y, pixels [N].
        centre: x and y of the fixed point, pixels.
    """
    cos, sin, slope = ops.cos(angle), ops.sin(angle), ops.tan(shear)
    wide, high = 1 + zoom[0], 1 + zoom[1]
    xx, xy = cos * wide, (cos * slope - sin) * high
    yx, yy = sin * wide, (sin * slope + cos) * high
    x, y = centre
    zero = ops.zeros_like(angle)
    columns = [xx, xy, x - xx * x - xy * y + shift[0], yx, yy, y - yx * x - yy * y + shift[1], zero, zero]
    return ops.stack(columns, axis=-1)
