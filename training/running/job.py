"""Prepares and checks a run before anything is trained."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import datasets, zoo
from ..datasets import Dataset, hold_out
from ..datasets import own as own_pictures
from ..errors import UsageError
from ..progress import say
from ..recipe import KerasRecipe, Recipe
from ..staging import check_free
from . import own, resume, runs
from .checkpoint import Checkpoint, State
from .remedies import settings_of
from .resume import Request

# Steps that a network needs to learn anything; the recipes' own data sets give several times as many.
_LEAST_STEPS = 500
# After this many times its memory, a moving average holds about a fiftieth of the initial weights.
_MEMORIES = 4


@dataclass(frozen=True)
class Job:
    """A prepared run."""

    recipe: Recipe
    """The recipe, with the caller's options."""
    folder: Path
    """The run's folder."""
    dataset: Dataset
    """The data to learn from and to evaluate on."""
    settings: runs.Settings
    """The settings for its folder."""
    checkpoint: Checkpoint
    """Its checkpoint."""
    finished: bool
    """Whether the folder already holds this run, finished."""
    own: bool
    """Whether it learns a user's own pictures, to which the recipe's claim does not apply."""


def prepare(recipe_name: str, data_dir: Path | None, run_dir: Path | None, request: Request, *, resumed: bool) -> Job:
    """Returns a run that can be started or resumed.

    Args:
        recipe_name: the recipe's name in the zoo.
        data_dir: folder of the data set's official files; None: Keras downloads them.
        run_dir: the run's folder; None: a folder in runs/ named after the recipe and the time.
        request: the caller's options.
        resumed: whether to resume that folder's unfinished run, if there is one.

    Raises:
        UsageError: an unknown recipe, invalid options, an existing run folder, or a run that was started with other
            settings.
        DataError: the data is not available.
        SourceError: the unfinished run's state is damaged.
    """
    recipe = own.transfer_recipe() if recipe_name == own.TRANSFER else zoo.find(recipe_name)
    unfinished = resume.read(run_dir, recipe.name) if resumed else None
    if unfinished is not None:
        request = resume.completed(request, unfinished.request)
    recipe = request.remedies.apply(request.overrides.apply(recipe))
    request.pictures.check(recipe, own=request.images is not None)
    recipe = request.pictures.balanced(recipe)
    if request.tensorboard and not (isinstance(recipe, KerasRecipe) and not recipe.ensemble):
        raise UsageError(
            f"--tensorboard logs a single network, which this run of {recipe.name} is not; omit the option"
        )
    folder = run_dir or runs.default_folder(recipe.name)
    finished = resumed and runs.is_run(folder)
    if not finished:
        check_free(folder)
    if not resumed:
        resume.check_none(folder)
    if request.images is None:
        dataset = _load(recipe, request, data_dir)
        _check_early_stopping(recipe, dataset)
        settings = _settings(recipe, dataset)
    else:
        recipe, dataset, settings = _own_pictures(recipe, request, request.images)
    if finished or unfinished is not None:
        begun = unfinished.state.settings if unfinished is not None else runs.read_settings(folder)
        resume.check_same(begun, settings, folder)
    state = unfinished.state if unfinished is not None else State(settings=settings, request=request.as_json())
    checkpoint = Checkpoint(folder, state, logged=request.tensorboard)
    if unfinished is None:
        # Leftovers of a run that was killed before its first epoch.
        checkpoint.discard()
    return Job(recipe, folder, dataset, settings, checkpoint, finished, own=request.images is not None)


def _load(recipe: Recipe, request: Request, data_dir: Path | None) -> Dataset:
    if request.skip_broken:
        raise UsageError("--skip-broken is for your own pictures; give their folder with --images, or omit the option")
    dataset = datasets.load(recipe.dataset, data_dir)
    if dataset.note:
        say(f"note: {dataset.note}; figures are not comparable with published ones")
    return dataset


def _own_pictures(recipe: Recipe, request: Request, images: Path) -> tuple[Recipe, Dataset, runs.Settings]:
    """Returns a recipe for a user's own pictures, the pictures, and the run's settings."""
    spec = own.spec_of(recipe, request.pictures)
    dataset = own_pictures.load(images, spec, skip_broken=request.skip_broken)
    assert isinstance(recipe, KerasRecipe)  # noqa: S101  # the specification refuses others
    recipe = own.adapt(recipe, request.pictures, spec, dataset, request.overrides.epochs)
    if recipe.name != own.TRANSFER:
        recipe = _for_few(recipe, dataset, request)
    _check_early_stopping(recipe, dataset)
    settings = _settings(recipe, dataset)
    return (
        recipe,
        dataset,
        settings.model_copy(update={"learner": settings.learner | own.settings_of(request.pictures, spec, recipe)}),
    )


def _for_few(recipe: KerasRecipe, dataset: Dataset, request: Request) -> KerasRecipe:
    """Adapts a recipe to few pictures, which give few steps per epoch.

    It gets more epochs, unless the caller chose their number; a moving average of the weights remembers at most a
    quarter of the run, so it forgets the initial ones.
    """
    samples = len(hold_out(dataset.train, recipe.held_out)[0])
    steps = -(-samples // recipe.batch_size)
    if request.overrides.epochs is None and recipe.epochs * steps < _LEAST_STEPS:
        recipe = replace(recipe, epochs=-(-_LEAST_STEPS // steps))
        say(f"{recipe.epochs} epochs, because {samples:,} pictures make few steps per epoch; --epochs overrides this")
    averaging = recipe.optimizer.averaging
    if averaging is None:
        return recipe
    forgetful = max(1 - _MEMORIES / (recipe.epochs * steps), 0.0)
    return replace(recipe, optimizer=replace(recipe.optimizer, averaging=min(averaging, forgetful)))


def _check_early_stopping(recipe: Recipe, dataset: Dataset) -> None:
    """Refuses early stopping without held-out samples."""
    if not isinstance(recipe, KerasRecipe) or recipe.regularization.patience is None:
        return
    if not len(hold_out(dataset.train, recipe.held_out)[1]):
        raise UsageError(
            f"--early-stopping needs held-out samples, but {recipe.held_out:.0%} of {len(dataset.train)} training "
            f"samples is none; omit the option, and choose --epochs instead"
        )


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
        "balance": recipe.balance,
        "cut_mix": recipe.cut_mix,
        "mirrored": recipe.mirrored,
        "teacher": recipe.teacher and {"weight": recipe.teacher.weight, "temperature": recipe.teacher.temperature},
        "repeats": recipe.repeats,
        "optimizer": recipe.optimizer.name,
        **optimizer,
        **settings_of(recipe),
    }


def _own(recipe: Recipe) -> dict[str, Any]:
    """Returns the fields that a recipe has beyond the common ones."""
    common = {entry.name for entry in fields(Recipe)}
    return {name: value for name, value in vars(recipe).items() if name not in common}
