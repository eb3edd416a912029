"""The result of a learner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .datasets import Array
from .report import Layer


class Trained(Protocol):
    """A trained model of any learner."""

    @property
    def parameters(self) -> int:
        """Weights in the model."""

    @property
    def history(self) -> dict[str, list[float]]:
        """Figures by name, one entry per epoch; empty without epochs."""

    @property
    def temperature(self) -> float | None:
        """The temperature that calibrates the logits, or None."""

    @property
    def layers(self) -> Sequence[Layer]:
        """A network's layers in order; empty if it is not a network."""

    def predict(self, inputs: Array) -> Array:
        """Returns scores float [N, classes], or values float [N, 1], of samples along the first axis."""

    def save(self, folder: Path) -> None:
        """Writes the model into a run's folder, under a name known to `sources.from_run`."""
