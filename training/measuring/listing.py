"""The zoo as a table: each recipe's goal and claim, and its exported model's current figures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, learners, zoo
from ..datasets import hold_out
from ..errors import SourceError
from ..progress import say
from ..recipe import Recipe
from . import evaluation_data, published, timing
from .evaluation_data import EvaluationData
from .interval import wilson
from .published import Published
from .remeasure import figures_of

# Times are multiples of this model's.
_YARDSTICK = "mnist-cnn"
_BATCH_SIZE = 64


@dataclass(frozen=True)
class Measured:
    """Figures of a recipe's exported model."""

    version: int
    """Its highest version's number."""
    figure: float
    """The metric of the recipe's goal: an accuracy, a fraction of 1, or a mean squared error."""
    split: str
    """The split that it was measured on."""
    samples: int
    """Number of samples."""
    interval: tuple[float, float] | None
    """An accuracy's 95 % confidence interval, fractions of 1; None for regressions and training samples."""
    slowdown: float | None
    """Time per sample relative to mnist-cnn, batch 64, one core; None without mnist-cnn or batches."""


@dataclass(frozen=True)
class Row:
    """A recipe's row."""

    recipe: Recipe
    """It."""
    measured: Measured | None = None
    """The current figures, or None if not measured."""
    problem: str = ""
    """Why nothing was measured; empty if it was, or was not requested."""

    @property
    def goal_met(self) -> bool | None:
        """Whether the exported model reaches the goal; None if not measured on the goal's samples."""
        goal, found = self.recipe.goal, self.measured
        if found is None or found.split != goal.split:
            return None
        in_time = goal.slowdown is None or (found.slowdown is not None and found.slowdown <= goal.slowdown)
        return goal.reached(found.figure) and in_time

    def as_json(self) -> dict[str, Any]:
        """Returns its entry in the output of `pixelserve zoo --json`."""
        recipe, found = self.recipe, self.measured
        return {
            "recipe": recipe.name,
            "summary": recipe.summary,
            "dataset": recipe.dataset,
            "parameters": recipe.parameters,
            "goal": vars(recipe.goal),
            "claimed": recipe.claimed,
            "claimed_by_seed": {str(seed): figure for seed, figure in recipe.measured.items()},
            "training_s": recipe.training_s,
            "measured": found and vars(found),
            "goal_met": self.goal_met,
            "problem": self.problem,
        }


def rows() -> list[Row]:
    """Returns a row per recipe, from the shortest training to the longest, without measuring."""
    return [Row(recipe) for recipe in zoo.recipes()]


def measured_rows(repository: Path, data_dir: Path | None) -> list[Row]:
    """Returns the rows with current figures of the exported models, measured by ONNX Runtime alone.

    Args:
        repository: the model repository with the exported recipes, under their default names.
        data_dir: folder of the data sets' official files; None downloads them with Keras.

    Raises:
        DataError: a data set is not available.
    """
    yardstick = _yardstick(repository, data_dir)
    return [_measure(recipe, repository, data_dir, yardstick) for recipe in zoo.recipes()]


def _yardstick(repository: Path, data_dir: Path | None) -> tuple[Published, EvaluationData] | None:
    if not (repository / _YARDSTICK).is_dir():
        say(f"no {_YARDSTICK} in {repository}, so there are no times to compare with")
        return None
    version = published.read(published.find(_YARDSTICK, repository))
    return version, evaluation_data.from_dataset(version, data_dir)


def _measure(
    recipe: Recipe, repository: Path, data_dir: Path | None, yardstick: tuple[Published, EvaluationData] | None
) -> Row:
    if not (repository / recipe.name).is_dir():
        return Row(recipe, problem=f"not in {repository}: pixelserve train {recipe.name}, then pixelserve export")
    try:
        version = published.read(published.find(recipe.name, repository))
    except SourceError as error:
        return Row(recipe, problem=str(error))
    if version.card.recipe != recipe.name:
        return Row(recipe, problem=f"{version.title} is not this recipe's, by its card")
    data = _goal_samples(recipe, evaluation_data.from_dataset(version, data_dir), data_dir)
    say(f"measuring {version.title} on {data.count:,} {data.split} samples")
    figure = figures_of(version, data).evaluation.metrics[recipe.goal.metric]
    slowdown = None if yardstick is None else _slowdown(version, data, *yardstick)
    number = int(version.folder.resolve().name)
    return Row(recipe, Measured(number, figure, data.split, data.count, _interval(recipe, data, figure), slowdown))


def _interval(recipe: Recipe, data: EvaluationData, figure: float) -> tuple[float, float] | None:
    if recipe.goal.metric != "accuracy" or data.split == "training":
        return None
    return wilson(round(figure * data.count), data.count)


def _goal_samples(recipe: Recipe, test: EvaluationData, data_dir: Path | None) -> EvaluationData:
    """Returns the goal's samples, or the test split if a trained model cannot be measured on them."""
    share = learners.of(recipe).held_out(recipe)
    if recipe.goal.split != "validation" or not share:
        return test
    _, held_out = hold_out(datasets.load(recipe.dataset, data_dir).train, share)
    (name,) = test.inputs
    return replace(test, inputs={name: held_out.inputs}, targets=held_out.targets, split="validation")


def _slowdown(
    version: Published, data: EvaluationData, yardstick: Published, yardstick_data: EvaluationData
) -> float | None:
    if not version.model.batches or not yardstick.model.batches:
        return None
    pairs = ((version.model, data.inputs), (yardstick.model, yardstick_data.inputs))
    times_s = timing.sample_times_s(pairs, _BATCH_SIZE)
    return float(np.median(times_s[:, 0] / times_s[:, 1]))
