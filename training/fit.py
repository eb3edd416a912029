"""Trains a recipe: the run that `pixelserve train` starts."""

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from . import datasets, learners, run_report, runs, zoo
from .cross_validation import CrossValidation, cross_validate
from .datasets import Array, Dataset, Split, hold_out
from .errors import UsageError
from .evaluate import Figures, measure, measure_regression, score_each_class
from .progress import say
from .recipe import Goal, KerasRecipe, LogisticRecipe, Recipe
from .remedies import NONE, Remedies, settings_of
from .staging import check_free
from .trained import Trained


@dataclass(frozen=True)
class Overrides:
    """What the caller wants other than the recipe has it; None leaves it as it is."""

    epochs: int | None = None
    """Passes over the training split."""
    batch_size: int | None = None
    """Samples a step."""
    learning_rate: float | None = None
    """The optimizer's step size; with a schedule, its greatest."""
    seed: int | None = None
    """Fixes the initial weights and the order of the samples."""

    def apply(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with what is given here in its place.

        Raises:
            UsageError: a count below 1, a rate that is not above 0, a seed that NumPy does not take, or an option that
                the recipe's learner knows nothing of.
        """
        self._check()
        if self.seed is not None:
            recipe = replace(recipe, seed=self.seed)
        options = ("epochs", "batch_size", "learning_rate")
        given = {name: getattr(self, name) for name in options if getattr(self, name) is not None}
        if isinstance(recipe, KerasRecipe) and "learning_rate" in given:
            given["optimizer"] = replace(recipe.optimizer, learning_rate=given.pop("learning_rate"))
        unknown = [name.replace("_", " ") for name in given if not hasattr(recipe, name)]
        if unknown:
            raise UsageError(f"{recipe.name} has no {' and no '.join(unknown)} to choose; leave the option out")
        return replace(recipe, **given)

    def _check(self) -> None:
        for option, value, least in (
            ("epochs", self.epochs, 1),
            ("batch-size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and not least <= value < 2**32:
                raise UsageError(f"--{option} {value}: expected {least} to {2**32 - 1}")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"--lr {self.learning_rate}: expected a number above 0")


@dataclass(frozen=True)
class Run:
    """A run that is done."""

    recipe: Recipe
    """What was run, overrides included."""
    folder: Path
    """Where it was written to."""
    figure: float
    """What the recipe's goal is about, measured on this run's model: an accuracy, a fraction of 1, or an error."""
    training_s: float
    """How long the training took, in seconds; without cross-validation."""
    cross_validation: CrossValidation | None = None
    """How models did on samples that they had not learned from; None: it was not asked for."""

    def as_json(self) -> dict[str, Any]:
        """Returns what `pixelserve train --json` prints."""
        goal = self.recipe.goal
        return {
            "run": str(self.folder),
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "split": goal.split,
            goal.metric: self.figure,
            f"claimed_{goal.metric}": self.recipe.claimed,
            "training_s": round(self.training_s, 1),
            **_of_folds(self.cross_validation),
        }


def train(
    recipe_name: str,
    *,
    data_dir: Path | None,
    run_dir: Path | None,
    overrides: Overrides,
    remedies: Remedies = NONE,
) -> Run:
    """Trains a recipe, measures the model on the test split and writes the run's folder.

    The same recipe, data and seed give the same weights on the same machine. Nothing is written where it fails.

    Args:
        recipe_name: its name in the zoo.
        data_dir: folder of the data set's official files; None: Keras's downloader.
        run_dir: the run's folder; None: one under runs/ named after the recipe and the time.
        overrides: what differs from the recipe.
        remedies: what is done against overfitting.

    Raises:
        UsageError: an unknown recipe, a bad override or remedy, or a run folder that exists.
        DataError: the data set cannot be had.
        DivergedError: the loss became NaN or infinite.
    """
    recipe = remedies.apply(overrides.apply(zoo.find(recipe_name)))
    folder = run_dir or runs.default_folder(recipe.name)
    check_free(folder)
    dataset = datasets.load(recipe.dataset, data_dir)
    if dataset.note:
        say(f"note: {dataset.note}; figures are not comparable with published ones")
    folds = recipe.folds if isinstance(recipe, KerasRecipe | LogisticRecipe) else None
    validation = cross_validate(recipe, dataset, folds) if folds else None
    started_s = time.monotonic()
    trained = learners.fit(recipe, dataset)
    training_s = time.monotonic() - started_s
    scores = _predict(recipe, trained, dataset)
    figures = _measure(scores, trained, dataset)
    metrics = _metrics(figures) | {"temperature": trained.temperature, "training_s": round(training_s, 1)}
    metrics |= _of_folds(validation)
    settings = _settings(recipe, dataset)
    report = run_report.gather(settings, trained, dataset, scores[dataset.quoted[0]][1], metrics)
    runs.write(folder, settings, runs.Outcome(trained, metrics, report))
    return Run(recipe, folder, _figure(recipe.goal, figures, validation), training_s, validation)


def _predict(recipe: Recipe, trained: Trained, dataset: Dataset) -> dict[str, tuple[Split, Array]]:
    """Returns the splits that are measured, each with the model's outputs: the quoted one, and what was held out."""
    splits: dict[str, Split] = dict([dataset.quoted])
    if isinstance(recipe, KerasRecipe) and recipe.held_out:
        splits["validation"] = hold_out(dataset.train, recipe.held_out)[1]
    for name, split in splits.items():
        say(f"measuring on {len(split):,} {name} samples")
    return {
        name: (split, score_each_class(trained.predict(split.inputs), dataset.labels)) for name, split in splits.items()
    }


def _measure(scores: dict[str, tuple[Split, Array]], trained: Trained, dataset: Dataset) -> dict[str, Figures]:
    """Returns figures by split."""
    return {
        name: measure_regression(outputs, split.targets, split=name, inputs=split.inputs)
        if dataset.task == "regression"
        else measure(outputs, split.targets, dataset.labels, split=name, temperature=trained.temperature)
        for name, (split, outputs) in scores.items()
    }


def _figure(goal: Goal, figures: dict[str, Figures], validation: CrossValidation | None) -> float:
    if goal.split == "cross-validation" and validation is not None:
        return validation.mean
    return figures[goal.split].evaluation.metrics[goal.metric]


def _metrics(figures: dict[str, Figures]) -> dict[str, Any]:
    return {
        name: {
            **of_split.evaluation.model_dump(exclude={"split"}),
            "calibration": of_split.calibration and of_split.calibration.model_dump(exclude_none=True),
        }
        for name, of_split in figures.items()
    }


def _of_folds(validation: CrossValidation | None) -> dict[str, Any]:
    return {} if validation is None else {"cross_validation": validation.as_json()}


def _settings(recipe: Recipe, dataset: Dataset) -> runs.Settings:
    return runs.Settings(
        recipe=recipe.name,
        seed=recipe.seed,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        learner=_plain(recipe) if isinstance(recipe, KerasRecipe) else _own(recipe),
    )


def _plain(recipe: KerasRecipe) -> dict[str, Any]:
    optimizer = {f"optimizer_{name}": value for name, value in vars(recipe.optimizer).items() if name != "name"}
    return {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "loss": recipe.loss,
        "label_smoothing": recipe.label_smoothing,
        "held_out": recipe.held_out,
        "precision": recipe.precision,
        "repeats": recipe.repeats,
        "optimizer": recipe.optimizer.name,
        **optimizer,
        **settings_of(recipe),
    }


def _own(recipe: Recipe) -> dict[str, Any]:
    """Returns what a recipe has beyond what all of them have."""
    common = {entry.name for entry in fields(Recipe)}
    return {name: value for name, value in vars(recipe).items() if name not in common}
