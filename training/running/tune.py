"""Searches for a recipe's values with Optuna, on held-out samples; the test split is never loaded into it."""

import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve.interval import wilson

from .. import datasets, frameworks, learners, recipe_file
from ..datasets import Dataset, hold_out
from ..errors import DivergedError, UsageError
from ..measuring.evaluate import measure, measure_regression, score_each_class
from ..progress import say
from ..recipe import Recipe
from . import interrupts, job, overrides, search_space
from .search_space import Range

_HELD_OUT = 0.1


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int
    """Counted from 0."""
    figure: float
    """Its held-out accuracy, a fraction of 1, or mean squared error."""
    interval: tuple[float, float] | None
    """An accuracy's 95 % confidence interval, fractions of 1."""
    values: Mapping[str, Any]
    """The tried values by path."""


@dataclass(frozen=True)
class Tuning:
    """The result of a search."""

    recipe: str
    """The recipe, as the caller named it."""
    metric: str
    """accuracy or mean_squared_error."""
    samples: int
    """Number of held-out samples."""
    trials: tuple[Trial, ...]
    """The finished trials, the best first."""
    failed: int
    """Number of trials that diverged or were interrupted."""
    study: Path
    """The file that a later call continues from."""
    fixed: Mapping[str, Any]
    """The overrides that all trials share."""

    @property
    def command(self) -> str:
        """The command that trains with the best trial's values."""
        values = {**self.fixed, **self.trials[0].values}
        options = [text for path, value in values.items() for text in ("--set", f"{path}={value}")]
        return shlex.join(["pixelserve", "train", self.recipe, *options])

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve tune --json`."""
        return {
            "recipe": self.recipe,
            "metric": self.metric,
            "split": "validation",
            "samples": self.samples,
            "trials": [vars(trial) for trial in self.trials],
            "failed": self.failed,
            "study": str(self.study),
            "command": self.command if self.trials else None,
        }


def tune(
    recipe: str,
    *,
    trials: int,
    data_dir: Path | None,
    fixed: Mapping[str, Any],
    space: tuple[str, ...] = (),
    seed: int = 0,
    study: Path | None = None,
) -> Tuning:
    """Trains a recipe with different values, and returns what each gave on the same held-out samples.

    Each trial has the recipe's seed, so only the values differ. Ctrl-C keeps the finished trials in the study's file,
    which the next call with it continues.

    Args:
        recipe: the recipe's name in the zoo, or a Python file with a RECIPE.
        trials: number of trials to add to the study.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        fixed: overrides that all trials share.
        space: the values to try, as `search_space.read` takes them; empty: `search_space.default`.
        seed: fixes the order of the values.
        study: the file of the study; None: RECIPE.study in runs/.

    Raises:
        UsageError: an unknown recipe, or invalid overrides or space; or the study is another recipe's.
        DataError: the data set is not available.
        MissingLibraryError: Optuna is not installed.
        RunInterruptedError: SIGTERM stopped it.
    """
    with frameworks.named_where_missing():
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found, _ = recipe_file.find(recipe)
    chosen = _holding_out(overrides.apply(found, fixed))
    dataset = datasets.load(chosen.dataset, data_dir)
    # Out of reach: no choice may depend on it.
    dataset = replace(dataset, test=dataset.train)
    chosen = job.with_share(chosen, dataset)
    if not len(hold_out(dataset.train, chosen.held_out)[1]):
        raise UsageError(
            f"{chosen.name}: values are compared on held-out samples, but {chosen.held_out:.0%} of "
            f"{len(dataset.train)} training samples is none; hold out more, such as --set held_out=0.5"
        )
    ranges = search_space.read(space, chosen) if space else search_space.default(chosen, dataset)
    learners.of(chosen).check_data(chosen, dataset)
    if not isinstance(found.dataset, str) or recipe.endswith(".py"):
        learners.of(chosen).check_model(chosen, dataset)
    file = study or Path("runs") / f"{chosen.name}.study"
    search = _Search(chosen, dataset, ranges)
    made = _open(optuna, file, search, seed)
    with interrupts.terminable(), contextlib.suppress(KeyboardInterrupt):
        made.optimize(search.objective, n_trials=trials, catch=(DivergedError,))
    return search.result(recipe, made, file, fixed)


def _holding_out(recipe: Recipe) -> Recipe:
    if recipe.held_out:
        return recipe
    say(f"tuning holds out {_HELD_OUT:.0%} of the training samples")
    return overrides.apply(recipe, {"held_out": _HELD_OUT})


@dataclass(frozen=True)
class _Search:
    recipe: Recipe
    dataset: Dataset
    ranges: Mapping[str, Range]

    @property
    def metric(self) -> str:
        return "mean_squared_error" if self.dataset.task == "regression" else "accuracy"

    def objective(self, trial: Any) -> float:
        values = {path: each.suggest(trial, path) for path, each in self.ranges.items()}
        say(f"trial {trial.number}: " + ", ".join(f"{path} {_short(value)}" for path, value in values.items()))
        recipe = overrides.apply(self.recipe, {path: str(value) for path, value in values.items()})
        trained = learners.fit(recipe, self.dataset)
        figure = self._measure(trained)
        say(f"trial {trial.number}: held-out {self.metric.replace('_', ' ')} {figure:.4f}")
        return figure

    def _measure(self, trained: Any) -> float:
        _, held_out = hold_out(self.dataset.train, self.recipe.held_out)
        outputs = score_each_class(trained.predict(held_out.inputs), self.dataset.labels)
        if self.dataset.task == "regression":
            found = measure_regression(outputs, held_out.targets, split="validation", inputs=held_out.inputs)
        else:
            found = measure(outputs, held_out.targets, self.dataset.labels, split="validation")
        return found.evaluation.metrics[self.metric]

    def result(self, recipe: str, study: Any, file: Path, fixed: Mapping[str, Any]) -> Tuning:
        samples = len(hold_out(self.dataset.train, self.recipe.held_out)[1])
        done = [trial for trial in study.trials if trial.value is not None and trial.state.name == "COMPLETE"]
        best = sorted(done, key=lambda trial: -trial.value if self.metric == "accuracy" else trial.value)
        rows = (
            Trial(each.number, each.value, _interval(self.metric, each.value, samples), dict(each.params))
            for each in best
        )
        return Tuning(recipe, self.metric, samples, tuple(rows), len(study.trials) - len(done), file, fixed)


def _interval(metric: str, figure: float, samples: int) -> tuple[float, float] | None:
    return wilson(round(figure * samples), samples) if metric == "accuracy" else None


def _open(optuna: Any, file: Path, search: _Search, seed: int) -> Any:
    """Returns the study of a file: a new one, or the one that an earlier call left there."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(file)))
    about = {"recipe": search.recipe.name, "dataset_sha256": search.dataset.sha256, "space": sorted(search.ranges)}
    direction = "maximize" if search.metric == "accuracy" else "minimize"
    study = optuna.create_study(study_name="tune", storage=storage, direction=direction, load_if_exists=True)
    if before := study.user_attrs:
        if before != about:
            raise UsageError(f"{file} is the study of {before}, not of {about}; give another --study, or remove it")
        say(f"{file} has {len(study.trials)} trials already")
    for name, value in about.items():
        study.set_user_attr(name, value)
    # With the seed alone, a continued study would try its first values again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
