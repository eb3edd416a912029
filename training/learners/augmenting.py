"""Augmentation of pictures by preset, as Keras layers in front of a network, which are never exported."""

from collections.abc import Callable
from typing import Any

from .. import frameworks

_SHIFT, _WIDE_SHIFT = 0.06, 0.1
_TURN = 0.03
"""Of a whole turn: 11 degrees."""


def _light() -> list[Any]:
    layers = frameworks.load().keras.layers
    return [
        layers.RandomTranslation(_SHIFT, _SHIFT, fill_mode="nearest"),
        layers.RandomZoom((-_SHIFT, _SHIFT), fill_mode="nearest"),
    ]


def _photo() -> list[Any]:
    layers = frameworks.load().keras.layers
    return [
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(_WIDE_SHIFT, _WIDE_SHIFT, fill_mode="reflect"),
        layers.RandomRotation(_TURN, fill_mode="reflect"),
        layers.RandomZoom((-0.15, 0.15), fill_mode="reflect"),
        layers.RandomBrightness(0.15, value_range=(0, 255)),
        layers.RandomContrast(0.2, value_range=(0, 255)),
    ]


PRESETS: dict[str, Callable[[], list[Any]] | None] = {"none": None, "light": _light, "photo": _photo}
"""What each preset adds. none: nothing; light: shifts and zooms by a sixteenth, which suit drawings, text and digits as
well; photo: mirrored, and shifted, turned, zoomed, darker or lighter, as photographs are."""
