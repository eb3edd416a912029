"""Trains a recipe: the run that `pixelserve train` starts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import learners
from ..datasets import Array, Dataset, Split, hold_out
from ..measuring.evaluate import Figures, measure, measure_regression, score_each_class
from ..progress import say
from ..recipe import Goal, Recipe
from ..trained import Trained
from . import following, interrupts, resume, run_report, runs
from .cross_validation import CrossValidation, cross_validate
from .job import Job, prepare
from .own import DEFAULTS, PictureOptions
from .resume import Request

__all__ = ["PictureOptions", "TrainingRun", "train"]


@dataclass(frozen=True)
class TrainingRun:
    """A finished run."""

    recipe: Recipe
    """The recipe, with overrides."""
    folder: Path
    """The run's folder."""
    figure: float
    """The goal's figure for this run's model: an accuracy, a fraction of 1, or an error."""
    training_s: float
    """Duration of training without cross-validation, in seconds."""
    claimed: float | None
    """The recipe's claim for the same figure; None if the run learned other pictures."""
    split: str
    """The split of the figure."""
    cross_validation: CrossValidation | None = None
    """The cross-validation, or None."""

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve train --json`."""
        goal = self.recipe.goal
        return {
            "run": str(self.folder),
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "split": self.split,
            goal.metric: self.figure,
            f"claimed_{goal.metric}": self.claimed,
            "training_s": round(self.training_s, 1),
            **_of_folds(self.cross_validation),
        }


def train(
    recipe_name: str,
    *,
    data_dir: Path | None,
    run_dir: Path | None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    tensorboard: bool = False,
    images: Path | None = None,
    skip_broken: bool = False,
    pictures: PictureOptions = DEFAULTS,
    watch: bool = False,
    mlflow: str | None = None,
    resumed: bool = False,
) -> TrainingRun:
    """Trains a recipe, evaluates the model on the test split and writes the run's folder.

    Deterministic for a recipe, data and seed on one machine. A network is saved after each epoch, in RUN.partial beside
    the run's folder, until that is written. A run that fails or is stopped leaves nothing else.

    Args:
        recipe_name: the recipe's name in the zoo.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        run_dir: the run's folder; None: a folder in runs/ named after the recipe and the time.
        overrides: other values than the recipe's; see `overrides.apply`.
        tensorboard: whether to write logs for TensorBoard into the run's folder.
        images: the user's own pictures: a folder with one folder per class, a .csv or an .npz file; None: the recipe's
            data set.
        skip_broken: whether to skip unreadable pictures.
        pictures: what the network is to see of them and start from.
        watch: whether to show a report that grows with each epoch.
        mlflow: URI of the MLflow store to log to; None: none.
        resumed: whether to resume the stopped run of `run_dir`, or to keep a finished one; its options need not be
            repeated and cannot be changed.

    Raises:
        UsageError: an unknown recipe, an invalid override, an existing run folder, or a run that was started
            with other settings.
        DataError: the data set is not available.
        SourceError: the unfinished run's state is damaged.
        DivergedError: the loss became NaN or infinite.
        WriteError: the run cannot be written.
        RunInterruptedError: Ctrl-C or SIGTERM stopped it.
    """
    with interrupts.terminable():
        request = Request(dict(overrides), tensorboard, images, skip_broken, watch, mlflow, pictures)
        job = prepare(recipe_name, data_dir, run_dir, request, resumed=resumed)
        if job.finished:
            say(f"{job.folder} is finished; nothing is trained")
            return _finished(job)
        with (
            resume.kept(job.checkpoint, resume.command(job.recipe.name, data_dir, job.folder)),
            following.followed(job.checkpoint, job.followers),
        ):
            return _run(job)


def _run(job: Job) -> TrainingRun:
    recipe, dataset, checkpoint = job.recipe, job.dataset, job.checkpoint
    validation = _cross_validate(job)
    checkpoint.start()
    trained = learners.fit(recipe, dataset, checkpoint)
    training_s = checkpoint.training_s
    scores = _predict(recipe, trained, dataset)
    figures = _measure(scores, trained, dataset)
    metrics = _metrics(figures) | {"temperature": trained.temperature, "training_s": round(training_s, 1)}
    metrics |= _of_folds(validation)
    goal = _goal(job)
    claimed, figure = None if job.own else recipe.claimed, _figure(goal, figures, validation)
    # A cross-validation's figure is of all training samples.
    samples = figures[goal.split].evaluation.samples if goal.split in figures else len(dataset.train)
    headline = run_report.headline(goal, figure, samples=samples, claimed=claimed, folder=job.folder)
    shown = goal.split if goal.split in scores else dataset.quoted[0]
    report = run_report.gather(recipe, job.settings, trained, dataset, scores, metrics, shown=shown, headline=headline)
    outcome = runs.Outcome(trained, metrics, report, checkpoint.logs, dataset if job.own else None)
    runs.write(job.folder, job.settings, outcome)
    return TrainingRun(recipe, job.folder, figure, training_s, claimed, goal.split, validation)


def _goal(job: Job) -> Goal:
    """Returns the recipe's goal, which may concern held-out samples of the recipe's own data set only."""
    return replace(job.recipe.goal, split="test") if job.own else job.recipe.goal


def _finished(job: Job) -> TrainingRun:
    """Returns a run that an earlier command finished, from its folder."""
    goal = _goal(job)
    keys = ("cross_validation", "mean") if goal.split == "cross-validation" else (goal.split, "metrics", goal.metric)
    figure, training_s = runs.read_metric(job.folder, *keys), runs.read_metric(job.folder, "training_s")
    claimed = None if job.own else job.recipe.claimed
    return TrainingRun(job.recipe, job.folder, float(figure), float(training_s), claimed, goal.split)


def _cross_validate(job: Job) -> CrossValidation | None:
    """Cross-validates on request; a resumed run already has its figures."""
    folds = learners.of(job.recipe).folds(job.recipe)
    if not folds:
        return None
    if job.checkpoint.state.folds:
        return CrossValidation(tuple(job.checkpoint.state.folds))
    validation = cross_validate(job.recipe, job.dataset, folds)
    job.checkpoint.note(folds=validation.accuracies)
    return validation


def _predict(recipe: Recipe, trained: Trained, dataset: Dataset) -> dict[str, tuple[Split, Array]]:
    """Returns the evaluated splits, quoted and held-out, each with the model's outputs."""
    splits: dict[str, Split] = dict([dataset.quoted])
    if len(held_out := hold_out(dataset.train, learners.of(recipe).held_out(recipe))[1]):
        splits["validation"] = held_out
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
            **of_split.evaluation.model_dump(exclude={"split", "confusion", "surest_errors"}),
            "calibration": of_split.calibration
            and of_split.calibration.model_dump(exclude={"reliability"}, exclude_none=True),
        }
        for name, of_split in figures.items()
    }


def _of_folds(validation: CrossValidation | None) -> dict[str, Any]:
    return {} if validation is None else {"cross_validation": validation.as_json()}
