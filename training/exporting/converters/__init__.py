"""Converters from Keras to ONNX, one per file, behind the interface of `base` (docs/adr/0014-converters.md)."""

from collections.abc import Mapping

from . import keras_jax, tf2onnx
from .base import Converter

CONVERTERS: Mapping[str, Converter] = {tf2onnx.NAME: tf2onnx.CONVERTER, keras_jax.NAME: keras_jax.CONVERTER}
"""The converters by name; the first is the default."""
DEFAULT = next(iter(CONVERTERS))


def find(name: str) -> Converter:
    """Returns a converter by name."""
    return CONVERTERS[name]
