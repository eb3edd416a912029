"""The zoo as a table: each recipe's goal and claim, and its exported model's current figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixelserve.interval import interval_of

from .. import zoo
from ..errors import SourceError, UsageError
from ..progress import say
from ..recipe import Recipe
from . import evaluation_data, published, timing
from .evaluation_data import EvaluationData
from .published import Published
from .remeasure import figures_of

_BATCH_SIZE = 64

TimeGoal = Literal["met", "missed", "not judged"]
Measurable = tuple[Published, EvaluationData]


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
    """Time per sample relative to the goal's yardstick, batch 64, one core; None without that model or batches."""
    slowdown_spread: float | None = None
    """Distance of the lowest from the highest of its last repetitions, a fraction of it; None without a time."""

    @property
    def is_time_settled(self) -> bool:
        """Whether the time was repeated until it hardly changed, so it can be judged."""
        return self.slowdown_spread is not None and self.slowdown_spread < timing.LARGEST_SPREAD


@dataclass(frozen=True)
class Row:
    """A recipe's row."""

    recipe: Recipe
    """It."""
    measured: Measured | None = None
    """The current figures, or None if not measured."""
    problem: str = ""
    """Why nothing was measured, or the time was not judged; empty if all was, or nothing was requested."""

    @property
    def time_goal(self) -> TimeGoal | None:
        """Whether the exported model is as fast as its goal says; None if the goal has no time, or none was measured.

        Not judged: the time varied too much, because the machine was busy with other work.
        """
        goal, found = self.recipe.goal, self.measured
        if goal.slowdown is None or found is None:
            return None
        if found.slowdown is None or not found.is_time_settled:
            return "not judged"
        return "met" if found.slowdown <= goal.slowdown else "missed"

    @property
    def goal_met(self) -> bool | None:
        """Whether the exported model reaches the goal; None if that is not known.

        A figure on other samples than the goal's decides nothing, nor does a time that was not judged.
        """
        goal, found = self.recipe.goal, self.measured
        if self.time_goal == "missed":
            return False
        if found is None or found.split != goal.split:
            return None
        if not goal.reached(found.figure):
            return False
        return None if self.time_goal == "not judged" else True

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
            "claimed_spread": recipe.spread,
            "claimed_interval": recipe.interval,
            "caveat": recipe.caveat,
            "training_s": recipe.training_s,
            "measured": found and vars(found),
            "time_goal": self.time_goal,
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
    yardsticks: dict[str, Measurable | None] = {}
    return [_measure(recipe, repository, data_dir, yardsticks) for recipe in zoo.recipes()]


def _measure(recipe: Recipe, repository: Path, data_dir: Path | None, yardsticks: dict[str, Measurable | None]) -> Row:
    if not (repository / recipe.name).is_dir():
        return Row(recipe, problem=f"not measured: not in {repository}: pixelserve train {recipe.name}, then export it")
    try:
        version = published.read(published.find(recipe.name, repository))
    except SourceError as error:
        return Row(recipe, problem=f"not measured: {error}")
    if version.card.recipe != recipe.name:
        return Row(recipe, problem=f"not measured: {version.title} is not this recipe's, by its card")
    try:
        # The samples of its card: a test split is read only if that repeats a figure.
        data = evaluation_data.from_dataset(version, data_dir)
    except UsageError as error:
        return Row(recipe, problem=f"not measured: {error}")
    say(f"measuring {version.title} on {data.count:,} {data.split} samples")
    figures = figures_of(version, data)
    yardstick = _yardstick(recipe.goal.yardstick, repository, data_dir, yardsticks)
    slowdown, spread = (None, None) if yardstick is None else _slowdown((version, data), yardstick)
    figure, number = figures.evaluation.metrics[recipe.goal.metric], int(version.folder.resolve().name)
    interval = interval_of(figures.evaluation)
    found = Measured(number, figure, data.split, data.count, interval, slowdown, spread)
    return Row(recipe, found, _time_problem(recipe, found))


def _time_problem(recipe: Recipe, found: Measured) -> str:
    if recipe.goal.slowdown is None or found.is_time_settled:
        return ""
    if found.slowdown_spread is None:
        return f"time not judged: {recipe.goal.yardstick} is not there to compare with"
    return (
        f"time not judged: it still varies by {found.slowdown_spread:.0%} after {timing.MOST_REPETITIONS} repetitions, "
        f"so the machine is too busy; measure again when it is idle"
    )


def _yardstick(
    name: str, repository: Path, data_dir: Path | None, known: dict[str, Measurable | None]
) -> Measurable | None:
    """Returns the model that a goal's time is compared with, or None if the repository lacks it."""
    if name not in known:
        try:
            version = published.read(published.find(name, repository))
            known[name] = version, evaluation_data.from_dataset(version, data_dir, "test")
        except SourceError:
            say(f"no {name} in {repository}, so there are no times to compare with")
            known[name] = None
    return known[name]


def _slowdown(timed: Measurable, yardstick: Measurable) -> tuple[float | None, float | None]:
    (version, data), (other, other_data) = timed, yardstick
    if not version.model.batches or not other.model.batches:
        return None, None
    pairs: list[tuple[Any, Mapping[str, Any]]] = [(version.model, data.inputs), (other.model, other_data.inputs)]
    return timing.settled_ratio(pairs, _BATCH_SIZE)
