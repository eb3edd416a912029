"""Trains a recipe: the run that `pixelserve train` starts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pixelserve.interval import interval_of

from .. import learners
from ..datasets import Array, Split, hold_out
from ..learners.network import Network
from ..measuring.calibrate import divide_logits
from ..measuring.evaluate import Figures, measure, measure_regression, score_each_class
from ..progress import say
from ..recipe import Recipe
from ..trained import Trained
from . import dry_run, following, interrupts, resume, run_report, runs
from . import final as final_runs
from .cross_validation import CrossValidation, cross_validate
from .dry_run import DryRun
from .job import Job, prepare
from .own import DEFAULTS, PictureOptions
from .resume import Request

__all__ = ["PictureOptions", "TrainingRun", "describe", "train"]


@dataclass(frozen=True)
class TrainingRun:
    """A finished run."""

    recipe: Recipe
    """The recipe, with overrides."""
    folder: Path
    """The run's folder."""
    figures: dict[str, Figures]
    """The figures by split, the one to quote first; those of the run in `chosen_by`, if there is one."""
    training_s: float
    """Duration of training without cross-validation, in seconds."""
    own: bool = False
    """Whether it learned a user's own pictures, to which the recipe's claim does not apply."""
    chosen_by: runs.ChosenBy | None = None
    """For a final run, the run that chose its settings."""
    has_test: bool = True
    """Whether its data set has a test split."""
    cross_validation: CrossValidation | None = None
    """The cross-validation, or None."""

    @property
    def split(self) -> str:
        """The split of the quoted figure."""
        return next(iter(self.figures))

    @property
    def figure(self) -> float:
        """The quoted figure: an accuracy, a fraction of 1, or an error."""
        return self.figures[self.split].evaluation.metrics[self.recipe.goal.metric]

    @property
    def claimed(self) -> float | None:
        """The recipe's claim for the same figure; None if it is about other samples or another network."""
        if self.own or self.chosen_by is not None or self.split != self.recipe.goal.split:
            return None
        return self.recipe.claimed

    @property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """By split, the 95 % interval of the accuracy, fractions of 1; None for training samples and regressions."""
        return {split: interval_of(figures.evaluation) for split, figures in self.figures.items()}

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve train --json`."""
        metric, quoted = self.recipe.goal.metric, self.figures[self.split]
        return {
            "run": str(self.folder),
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "split": self.split,
            "samples": quoted.evaluation.samples,
            metric: self.figure,
            "interval": self.intervals[self.split],
            "calibration_error": quoted.calibration and quoted.calibration.expected_calibration_error,
            f"claimed_{metric}": self.claimed,
            "chosen_by": self.chosen_by and self.chosen_by.model_dump(),
            "training_s": round(self.training_s, 1),
            **_of_folds(self.cross_validation),
        }


def train(
    recipe: str | Recipe,
    *,
    data_dir: Path | None,
    run_dir: Path | None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    tensorboard: bool = False,
    images: Path | None = None,
    skip_broken: bool = False,
    pictures: PictureOptions = DEFAULTS,
    final: Path | None = None,
    watch: bool = False,
    mlflow: str | None = None,
    resumed: bool = False,
) -> TrainingRun:
    """Trains a recipe, evaluates the model on samples that it did not learn and writes the run's folder.

    Those are the held-out part of the training split, or the folds of a cross-validation: the test splits of the zoo's
    data sets are not read. A user's own pictures have a test split of their own, and what is too small for any split is
    measured on what was learned. A final run learns everything and has the figures of the run that chose its settings.

    Deterministic for a recipe, data and seed on one machine. A network is saved after each epoch, in RUN.partial beside
    the run's folder, until that is written. A run that fails or is stopped leaves nothing else.

    Args:
        recipe: its name in the zoo, a Python file with a RECIPE, or a recipe.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        run_dir: the run's folder; None: a folder in runs/ named after the recipe and the time.
        overrides: other values than the recipe's; see `overrides.apply`.
        tensorboard: whether to write logs for TensorBoard into the run's folder.
        images: the user's own pictures: a folder with one folder per class, a .csv or an .npz file; None: the recipe's
            data set.
        skip_broken: whether to skip unreadable pictures.
        pictures: what the network is to see of them and start from.
        final: the folder of the run that chose the settings, to train the final network; its options need not be
            repeated. None: an ordinary run.
        watch: whether to show a report that grows with each epoch.
        mlflow: URI of the MLflow store to log to; None: none.
        resumed: whether to resume the stopped run of `run_dir`, or to keep a finished one; its options need not be
            repeated and cannot be changed.

    Raises:
        UsageError: an unknown recipe, an invalid override, an existing run folder, or a run that was started or chosen
            with other settings.
        DataError: the data set is not available.
        SourceError: the unfinished run's state or the choosing run is damaged.
        DivergedError: the loss became NaN or infinite.
        WriteError: the run cannot be written.
        RunInterruptedError: Ctrl-C or SIGTERM stopped it.
    """
    with interrupts.terminable():
        request = Request(
            *(dict(overrides), tensorboard, images, skip_broken),
            final=final,
            watch=watch,
            mlflow=mlflow,
            pictures=pictures,
        )
        job = prepare(recipe, data_dir, run_dir, request, resumed=resumed)
        if job.finished:
            say(f"{job.folder} is finished; nothing is trained")
            return _finished(job)
        named = recipe if isinstance(recipe, str) else recipe.name
        with (
            resume.kept(job.checkpoint, resume.command(named, data_dir, job.folder)),
            following.followed(job.checkpoint, job.followers),
        ):
            return _run(job)


def describe(
    recipe: str | Recipe,
    *,
    data_dir: Path | None,
    run_dir: Path | None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    tensorboard: bool = False,
    images: Path | None = None,
    skip_broken: bool = False,
    pictures: PictureOptions = DEFAULTS,
    final: Path | None = None,
) -> DryRun:
    """Returns what `train` would train with the same arguments.

    Raises:
        UsageError: as `train`.
        DataError: the data set is not available.
    """
    request = Request(dict(overrides), tensorboard, images, skip_broken, final=final, pictures=pictures)
    return dry_run.describe(prepare(recipe, data_dir, run_dir, request, resumed=False))


def _run(job: Job) -> TrainingRun:
    job.checkpoint.check_writable()
    validation = _cross_validate(job)
    job.checkpoint.start()
    trained = learners.fit(job.recipe, job.dataset, job.checkpoint)
    training_s = job.checkpoint.training_s
    trained = _calibrated(trained, job, validation)
    scores = _predict(job, trained)
    figures = _figures(job, trained, scores, validation)
    metrics = _metrics(figures) | {"temperature": trained.temperature, "training_s": round(training_s, 1)}
    metrics |= _of_folds(validation)
    run = _result(job, figures, training_s, validation)
    report = run_report.gather(
        *(job.recipe, job.settings, trained, job.dataset, metrics),
        # Nothing is drawn of a model that learned all samples.
        evaluated=(run.split, *scores[run.split]) if run.split in scores else None,
        headline=run_report.headline(
            *(job.recipe.goal.metric, figures[run.split].evaluation),
            claimed=run.claimed,
            folder=job.folder,
            chosen_by=run.chosen_by,
        ),
    )
    outcome = runs.Outcome(
        *(trained, metrics, report, figures, job.options),
        logs=job.checkpoint.logs,
        pictures=job.dataset if job.own else None,
        recipe=job.recipe_file.content if job.recipe_file else None,
    )
    runs.write(job.folder, job.settings, outcome)
    return run


def _finished(job: Job) -> TrainingRun:
    """Returns a run that an earlier command finished, from its folder."""
    figures, training_s = runs.read_figures(job.folder), runs.read_metric(job.folder, "training_s")
    return _result(job, figures, float(training_s))


def _result(
    job: Job, figures: dict[str, Figures], training_s: float, validation: CrossValidation | None = None
) -> TrainingRun:
    return TrainingRun(
        *(job.recipe, job.folder, figures, training_s, job.own),
        chosen_by=job.settings.chosen_by,
        has_test=job.dataset.has_test,
        cross_validation=validation,
    )


def _cross_validate(job: Job) -> CrossValidation | None:
    """Cross-validates on request; a resumed run already has its figures."""
    if not job.recipe.folds:
        return None
    if job.checkpoint.state.folds:
        return CrossValidation(tuple(job.checkpoint.state.folds))
    validation = cross_validate(job.recipe, job.dataset, job.recipe.folds)
    job.checkpoint.note(folds=validation.accuracies)
    return validation


def _calibrated(trained: Trained, job: Job, validation: CrossValidation | None) -> Trained:
    """Returns the model with the temperature of the run that chose, or by cross-fitting if it held out too few."""
    if job.choice is not None:
        return final_runs.calibrate(trained, job.choice)
    is_wanted = learners.of(job.recipe).is_calibrated(job.recipe) and trained.temperature is None
    temperature = validation.temperature(job.dataset) if validation is not None and is_wanted else None
    if temperature is None or not isinstance(trained, Network):
        return trained
    divide_logits(trained.model, temperature)
    say(f"temperature {temperature:.3f}, found on {len(job.dataset.train):,} samples by cross-fitting")
    return replace(trained, temperature=temperature)


def _predict(job: Job, trained: Trained) -> dict[str, tuple[Split, Array]]:
    """Returns the evaluated splits, each with the model's outputs: the one to quote, and the held-out samples."""
    recipe, dataset = job.recipe, job.dataset
    splits: dict[str, Split] = dict([dataset.quoted(recipe.held_out)])
    if "training" in splits and (job.choice is not None or recipe.folds):
        # The figures are of other networks, which did not learn these samples.
        return {}
    if len(held_out := hold_out(dataset.train, recipe.held_out)[1]):
        splits["validation"] = held_out
    for name, split in splits.items():
        say(f"measuring on {len(split):,} {name} samples")
    return {
        name: (split, score_each_class(trained.predict(split.inputs), dataset.labels)) for name, split in splits.items()
    }


def _figures(
    job: Job, trained: Trained, scores: dict[str, tuple[Split, Array]], validation: CrossValidation | None
) -> dict[str, Figures]:
    """Returns figures by split, those of the goal first."""
    dataset = job.dataset
    found = {
        name: measure_regression(outputs, split.targets, split=name, inputs=split.inputs)
        if dataset.task == "regression"
        else measure(outputs, split.targets, dataset.labels, split=name, temperature=trained.temperature)
        for name, (split, outputs) in scores.items()
    }
    if validation is not None:
        of_folds = validation.figures(dataset)
        found[of_folds.evaluation.split] = of_folds
    if job.choice is not None and not found:
        found = dict(job.choice.figures)
    goal = job.recipe.goal.split
    return {**({goal: found[goal]} if goal in found else {}), **found}


def _metrics(figures: dict[str, Figures]) -> dict[str, Any]:
    return {
        name: {
            **of_split.evaluation.model_dump(exclude={"split", "confusion", "surest_errors"}, exclude_none=True),
            "interval": interval_of(of_split.evaluation),
            "calibration": of_split.calibration
            and of_split.calibration.model_dump(exclude={"reliability"}, exclude_none=True),
        }
        for name, of_split in figures.items()
    }


def _of_folds(validation: CrossValidation | None) -> dict[str, Any]:
    return {} if validation is None else {"cross_validation": validation.as_json()}
