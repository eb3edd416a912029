"""What a recipe is: the plain values that one training run is made of."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A model, the data it learns from, and how; everything that a run can be repeated from."""

    name: str
    """What the command line calls it, and the exported model's name."""
    dataset: str
    """The data set's name, as `datasets.load` knows it."""
    build: Callable[[], Any]
    """Returns the untrained Keras model: raw uint8 pixels [N, H, W, C] in, probabilities float32 [N, classes] out."""
    optimizer: str
    """Keras's name of it."""
    learning_rate: float
    """The optimizer's step size."""
    averaging: float | None
    """Momentum of the moving average of the weights, which is what the run ends with; None: the last step's weights."""
    epochs: int
    """Passes over the training split."""
    batch_size: int
    """Images a step."""
    inversion: str
    """Whether pictures sent to the served model are inverted: never, always, or auto (docs/pictures.md)."""
    seed: int
    """Fixes the initial weights and the order of the images."""
    measured: dict[int, float]
    """Accuracy on the official test split, a fraction of 1, by seed; the seeds were named before the runs."""

    @property
    def claimed_accuracy(self) -> float:
        """The median of the measured accuracies, a fraction of 1."""
        return statistics.median(self.measured.values())
