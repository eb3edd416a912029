"""The interface of other formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...runtime import Array, OnnxModel

if TYPE_CHECKING:
    from ..sources import Source


@dataclass(frozen=True)
class Made:
    """A model in another format, loaded by its runtime."""

    files: Mapping[str, bytes]
    """Contents by file name."""
    run: Callable[[Mapping[str, Array]], dict[str, Array]]
    """Computes outputs by name from inputs by name with that runtime, samples along the first axis."""
    runtime: str
    """The runtime's name."""
    version: str
    """Its version."""


Format = Callable[["Source", OnnxModel], Made]
"""Makes the format from a model and its loaded ONNX file.

Raises MissingLibraryError without its runtime, and SourceError for a model that it does not support.
"""
