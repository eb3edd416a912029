"""Cross-validation of a recipe on its training split."""

import statistics
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pixelserve.figures import Evaluation

from .. import learners
from ..datasets import Array, Dataset, stratified_folds
from ..measuring import calibrate
from ..measuring.evaluate import Figures, measure
from ..progress import say
from ..recipe import Recipe


@dataclass(frozen=True)
class CrossValidation:
    """Accuracies of the folds' models, each on its own fold."""

    accuracies: tuple[float, ...]
    """By fold, fractions of 1."""
    scores: Array | None = None
    """Each sample's scores by the model that did not learn it, float [N, classes]; None if they were not kept."""

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

    def figures(self, dataset: Dataset) -> Figures:
        """Returns the figures of all samples, each predicted by the model that did not learn it."""
        if self.scores is not None:
            return measure(self.scores, dataset.train.targets, dataset.labels, split=SPLIT)
        return Figures(Evaluation(split=SPLIT, samples=len(dataset.train), metrics={"accuracy": self.mean}))

    def temperature(self, dataset: Dataset) -> float | None:
        """Returns the temperature found on all samples by cross-fitting, or None if there are too few.

        Each sample's probabilities are those of a model that did not learn it.
        """
        if self.scores is None or len(dataset.train) < calibrate.LEAST_SAMPLES:
            return None
        return calibrate.find_temperature(self.scores, dataset.train.targets)


SPLIT = "cross-validation"


def cross_validate(recipe: Recipe, dataset: Dataset, count: int) -> CrossValidation:
    """Trains a model per fold of the training split, on the other folds, and evaluates it on the fold.

    Each model follows the recipe, including its seed, and is not calibrated. Nothing else is held out of the other
    folds, unless early stopping needs it. The test split is not read.

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
    recipe = learners.of(recipe).of_a_fold(recipe)
    accuracies, places, scores = [], [], []
    for number, (others, fold) in enumerate(stratified_folds(dataset.train, count), start=1):
        say(f"fold {number} of {count}")
        trained = learners.fit(recipe, replace(dataset, train=dataset.train.take(others)))
        held_out = dataset.train.take(fold)
        outputs = trained.predict(held_out.inputs)
        figures = measure(outputs, held_out.targets, dataset.labels, split=SPLIT)
        say(f"fold {number} of {count}: accuracy {figures.accuracy:.2%} on its {len(held_out):,} samples")
        accuracies.append(figures.accuracy)
        places.append(fold)
        scores.append(outputs)
    return CrossValidation(tuple(accuracies), np.concatenate(scores)[np.argsort(np.concatenate(places))])
