"""What a learner gives back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .datasets import Array
from .report import Layer


class Trained(Protocol):
    """A trained model, whatever learned it."""

    @property
    def parameters(self) -> int:
        """Weights in the model."""

    @property
    def history(self) -> dict[str, list[float]]:
        """Figures by name, an entry an epoch; empty where there are no epochs."""

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by so that confidence is honest; None: they are as they were learned."""

    @property
    def layers(self) -> Sequence[Layer]:
        """A network's layers in order; empty: it is no network."""

    def predict(self, inputs: Array) -> Array:
        """Returns scores float [N, classes], or values float [N, 1], of samples along the first axis."""

    def save(self, folder: Path) -> None:
        """Writes the model into a run's folder, under a name that `sources.from_run` knows."""
