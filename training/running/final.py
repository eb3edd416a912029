"""The final network of a recipe: it learns all training samples, with the settings that an earlier run chose.

Choices need samples that are held out of training, and a better network learns those as well. Nothing is then left to
measure it on except the test split, which `pixelserve evaluate --split test` reads and logs. A final run therefore has
the figures of the run that chose, and its temperature.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelserve.figures import ChoiceRun

from .. import learners
from ..errors import SourceError, UsageError
from ..learners.network import Network
from ..measuring.calibrate import divide_logits
from ..measuring.evaluate import Figures
from ..progress import say
from ..recipe import Recipe
from ..trained import Trained
from . import resume, runs

_HELD_OUT_LOSS = "val_loss"


@dataclass(frozen=True)
class Choice:
    """A finished run that chose the settings of a final one."""

    folder: Path
    """Its folder."""
    settings: runs.Settings
    """Its settings."""
    options: dict[str, Any]
    """The options that it was started with."""
    figures: dict[str, Figures]
    """Its figures by split, on samples that its network did not learn."""
    temperature: float | None
    """Its temperature, or None."""
    epochs: int | None
    """The epoch that early stopping kept, counted from 1; None without early stopping."""

    @property
    def described(self) -> runs.ChosenBy:
        """What the final run's settings say about it."""
        return runs.ChosenBy(run=str(self.folder), seed=self.settings.seed, held_out=self.settings.held_out)


def read(run: Path, recipe: str) -> Choice:
    """Reads the run that chose the settings.

    Args:
        run: its folder.
        recipe: the recipe to train.

    Raises:
        SourceError: it is not a finished run, or one of its files is damaged.
        UsageError: it is a final run itself, of another recipe, or has no figures on samples that it did not learn.
    """
    settings = runs.read_settings(run)
    if settings.recipe != recipe:
        raise UsageError(f"--final {run}: it is a run of {settings.recipe}, not of {recipe}; give one of {recipe}")
    if settings.hold_out is None:
        raise SourceError(
            f"--final {run}: it is a run of an earlier release, which held out other samples; train again"
        )
    if settings.chosen_by is not None:
        raise UsageError(
            f"--final {run}: it is a final run itself, which held out no samples; give the run that it was made from, "
            f"{settings.chosen_by.run}"
        )
    figures = {name: found for name, found in runs.read_figures(run).items() if name != "training"}
    if not figures:
        raise UsageError(
            f"--final {run}: it held out no samples, so nothing tells how good its settings are; train it with "
            f"--hold-out 0.1, or with --folds 5 if there are few samples"
        )
    figures = {name: _marked(found, run, settings.seed) for name, found in figures.items()}
    return Choice(
        run, settings, runs.read_options(run), figures, runs.read_temperature(run), _kept_epoch(run, settings)
    )


def check_same(choice: Choice, settings: runs.Settings) -> None:
    """Checks that the recipe is still the one that was chosen.

    Args:
        choice: the run that chose.
        settings: those of the recipe and the options, before `adapt`.

    Raises:
        UsageError: a setting other than the seed differs; the message names the first one.
    """
    difference = resume.first_difference(choice.settings, settings, ignored=("seed", "chosen_by"))
    if difference is not None:
        name, before, now = difference
        raise UsageError(
            f"--final {choice.folder}: its {name} was {before}, and is {now} now; what was not chosen has no figures: "
            f"use the same value, or train a new run to choose by"
        )


def adapt(recipe: Recipe, choice: Choice) -> Recipe:
    """Returns the recipe of the final run: nothing is held out, and everything else is as chosen."""
    if choice.epochs is not None:
        say(f"{choice.epochs} epochs, because early stopping kept that one in {choice.folder}")
    adapted: Recipe = learners.of(recipe).for_all_samples(replace(recipe, held_out=0.0, folds=None), choice.epochs)
    return adapted


def calibrate(trained: Trained, choice: Choice) -> Trained:
    """Returns the trained model with the chosen temperature, if there is one."""
    if choice.temperature is None or not isinstance(trained, Network):
        return trained
    divide_logits(trained.model, choice.temperature)
    say(f"temperature {choice.temperature:.3f}, found by {choice.described}")
    return replace(trained, temperature=choice.temperature)


def _marked(figures: Figures, run: Path, seed: int) -> Figures:
    mark = ChoiceRun(run=run.resolve().name, seed=seed)
    return replace(figures, evaluation=figures.evaluation.model_copy(update={"choice_run": mark}))


def _kept_epoch(run: Path, settings: runs.Settings) -> int | None:
    losses = runs.read_history(run).get(_HELD_OUT_LOSS, [])
    if settings.learner.get("regularization.patience") is None or not losses:
        return None
    return 1 + losses.index(min(losses))
