"""Cross-validation of a recipe on its training split."""

import statistics
from dataclasses import dataclass, replace
from typing import Any

from .. import learners
from ..datasets import Dataset, stratified_folds
from ..measuring.evaluate import measure
from ..progress import say
from ..recipe import Recipe


@dataclass(frozen=True)
class CrossValidation:
    """Accuracies of the folds' models, each on its own fold."""

    accuracies: tuple[float, ...]
    """By fold, fractions of 1."""

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.mean(self.accuracies)

    @property
    def spread(self) -> float:
        """Their sample standard deviation."""
        return statistics.stdev(self.accuracies)

    def as_json(self) -> dict[str, Any]:
        """Returns its entry in a run's metrics and in `pixelserve train --json`."""
        return {"accuracies": list(self.accuracies), "mean": self.mean, "spread": self.spread}


def cross_validate(recipe: Recipe, dataset: Dataset, count: int) -> CrossValidation:
    """Trains a model per fold of the training split, on the other folds, and evaluates it on the fold.

    Each model follows the recipe, including its seed; the recipe's held-out share is taken from the other folds. The
    test split is not read.

    Args:
        recipe: a classifier's recipe.
        dataset: its data set.
        count: number of folds.

    Raises:
        UsageError: a class has fewer training samples than there are folds.
        DivergedError: a loss became NaN or infinite.
    """
    if own := learners.of(recipe).fold_accuracies(recipe, dataset, count):
        return CrossValidation(own)
    accuracies = []
    for number, (others, fold) in enumerate(stratified_folds(dataset.train, count), start=1):
        say(f"fold {number} of {count}")
        trained = learners.fit(recipe, replace(dataset, train=dataset.train.take(others)))
        held_out = dataset.train.take(fold)
        figures = measure(trained.predict(held_out.inputs), held_out.targets, dataset.labels, split="cross-validation")
        say(f"fold {number} of {count}: accuracy {figures.accuracy:.2%} on its {len(held_out):,} samples")
        accuracies.append(figures.accuracy)
    return CrossValidation(tuple(accuracies))
