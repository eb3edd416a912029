"""What a run would train, before anything is trained: the model's layers, the samples of each split, and the steps."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import learners, plain_values
from ..datasets import Dataset, Split, hold_out
from ..recipe import Recipe
from ..report import Layer
from .job import Job


@dataclass(frozen=True)
class DryRun:
    """A run that was prepared and not started."""

    recipe: Recipe
    """The recipe, with the caller's options."""
    dataset: Dataset
    """Its data."""
    layers: Sequence[Layer]
    """The layers of its network, or of an ensemble's first member, as in a report; empty if it is not a network."""
    splits: dict[str, Split]
    """The samples by split: training, without those held out; held-out; and test, if there is a separate one."""
    steps: int | None
    """Steps per epoch; None if the learner has no batches."""
    seeds: tuple[int, ...] = ()
    """The seeds of several such runs, of which the first is described; empty: it is a single run."""

    @property
    def parameters(self) -> int:
        """Weights of these layers."""
        return sum(layer.parameters for layer in self.layers)

    def counts(self, split: str) -> dict[str, int]:
        """Returns the number of samples of each class in a split; empty in a regression."""
        labels = self.dataset.labels
        found: Any = np.bincount(self.splits[split].targets, minlength=len(labels)) if labels else []
        return {label: int(count) for label, count in zip(labels, found, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve train --dry-run --json`."""
        return {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "seeds": list(self.seeds or (self.recipe.seed,)),
            "dataset": self.dataset.name,
            "input": {
                "dtype": str(self.dataset.train.inputs.dtype),
                "shape": list(self.dataset.train.inputs.shape[1:]),
            },
            "layers": [asdict(layer) for layer in self.layers],
            "parameters": self.parameters,
            "splits": {
                name: {"samples": len(split), "classes": self.counts(name)} for name, split in self.splits.items()
            },
            "steps_per_epoch": self.steps,
            "settings": plain_values.settings(self.recipe),
        }


def describe(job: Job) -> DryRun:
    """Returns what a prepared run would train; for a network, it is built.

    Raises:
        UsageError: the network cannot be built, or does not fit its data.
    """
    recipe, dataset, learner = job.recipe, job.dataset, learners.of(job.recipe)
    learned, held_out = hold_out(dataset.train, recipe.held_out)
    splits = {"training": learned}
    if len(held_out):
        splits["held-out"] = held_out
    if dataset.has_test:
        splits["test"] = dataset.test
    batch, repeats = getattr(recipe, "batch_size", None), getattr(recipe, "repeats", 1)
    steps = math.ceil(len(learned) * repeats / batch) if batch else None
    return DryRun(recipe, dataset, learner.layers(recipe, dataset), splits, steps)
