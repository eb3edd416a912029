"""Prepares and checks a run before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from .. import datasets, learners, plain_values, recipe_file
from ..datasets import Dataset
from ..datasets import own as own_pictures
from ..errors import UsageError
from ..progress import say
from ..recipe import Goal, KerasRecipe, Metric, Recipe
from ..recipe_file import RecipeFile
from ..staging import check_free
from . import final, overrides, own, resume, runs
from .checkpoint import Checkpoint, State
from .following import Follower, followers
from .resume import Request


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
    """Whether it learns a user's own data, to which the recipe's claim does not apply."""
    options: dict[str, Any]
    """The caller's options, for its folder."""
    choice: final.Choice | None = None
    """For a final run, the run that chose its settings."""
    followers: Sequence[Follower] = ()
    """What follows its training."""
    recipe_file: RecipeFile | None = None
    """The user's file that the recipe is from; None for one of the zoo."""


def prepare(
    named: str | Recipe, data_dir: Path | None, run_dir: Path | None, request: Request, *, resumed: bool
) -> Job:
    """Returns a run that can be started or resumed.

    Args:
        named: the recipe's name in the zoo, a Python file with a RECIPE, or a recipe.
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
    recipe, own_file = (own.transfer_recipe(), None) if named == own.TRANSFER else recipe_file.find(named)
    is_of_zoo = isinstance(named, str) and own_file is None
    unfinished = resume.read(run_dir, recipe.name) if resumed else None
    if unfinished is not None:
        request = resume.completed(request, unfinished.request)
    choice = final.read(request.final, recipe.name) if request.final is not None else None
    if choice is not None:
        request = resume.completed(request, resume.as_request(choice.options, choice.folder / runs.OPTIONS))
    if request.images is not None:
        # Their test split is theirs alone, and few pictures are better learned than held out.
        recipe = replace(recipe, held_out=0.0)
    recipe = overrides.apply(recipe, request.overrides)
    request.pictures.check(recipe, own=request.images is not None)
    learner = learners.of(recipe)
    _check_logged(recipe, request)
    folder = run_dir or runs.default_folder(recipe.name)
    finished = resumed and runs.is_run(folder)
    if not finished:
        check_free(folder)
    if not resumed:
        resume.check_none(folder)
    if request.images is None:
        dataset, added = _load(recipe, request, data_dir), dict[str, Any]()
    else:
        recipe, dataset, added = _own_pictures(recipe, request, request.images)
    recipe = with_metric(with_share(recipe, dataset), dataset)
    learner.check_data(recipe, dataset)
    settings = _settings(recipe, dataset, added)
    if not is_of_zoo or "loss" in request.overrides:
        learner.check_model(recipe, dataset)
    if not is_of_zoo:
        settings = settings.model_copy(update={"own_recipe": _own_recipe(recipe, own_file)})
    if choice is not None:
        final.check_same(choice, settings)
        recipe = final.adapt(recipe, choice)
        settings = settings.model_copy(
            update={"chosen_by": choice.described, "learner": plain_values.settings(recipe) | added}
        )
    if finished or unfinished is not None:
        begun = unfinished.state.settings if unfinished is not None else runs.read_settings(folder)
        resume.check_same(begun, settings, folder)
    options = request.as_json()
    state = unfinished.state if unfinished is not None else State(settings=settings, request=options)
    checkpoint = Checkpoint(folder, state, logged=request.tensorboard)
    if unfinished is None:
        # Leftovers of a run that was killed before its first epoch.
        checkpoint.discard()
    has_own_data = request.images is not None or not isinstance(recipe.dataset, str)
    follows = followers(folder, watch=request.watch, mlflow=request.mlflow)
    return Job(
        *(recipe, folder, dataset, settings, checkpoint, finished),
        own=has_own_data,
        options=options,
        choice=choice,
        followers=follows,
        recipe_file=own_file,
    )


def _check_logged(recipe: Recipe, request: Request) -> None:
    for option, chosen in (("--tensorboard", request.tensorboard), ("--watch", request.watch)):
        if chosen and not learners.of(recipe).is_logged(recipe):
            raise UsageError(
                f"{option} shows a single network, which this run of {recipe.name} is not; omit the option"
            )


def _load(recipe: Recipe, request: Request, data_dir: Path | None) -> Dataset:
    if request.skip_broken:
        raise UsageError("--skip-broken is for your own pictures; give their folder with --images, or omit the option")
    dataset = datasets.load(recipe.dataset, data_dir)
    if dataset.note:
        say(f"note: {dataset.note}; figures are not comparable with published ones")
    return dataset


def _own_pictures(recipe: Recipe, request: Request, images: Path) -> tuple[Recipe, Dataset, dict[str, Any]]:
    """Returns a recipe for a user's own pictures, the pictures, and what the settings add to the recipe's values."""
    spec = own.spec_of(recipe, request.pictures)
    dataset = own_pictures.load(images, spec, skip_broken=request.skip_broken)
    recipe = with_share(recipe, dataset)
    epochs_chosen = "epochs" in request.overrides
    recipe = own.adapt(cast(KerasRecipe, recipe), request.pictures, spec, dataset, epochs_chosen=epochs_chosen)
    if recipe.name != own.TRANSFER:
        recipe = learners.of(recipe).for_pictures(recipe, dataset, epochs_chosen=epochs_chosen)
    return recipe, dataset, own.settings_of(request.pictures, spec, recipe)


def with_share(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Returns the recipe with its held-out samples as a share, if the caller gave their number."""
    if recipe.held_out < 1:
        return recipe
    samples = len(dataset.train)
    if recipe.held_out >= samples:
        raise UsageError(
            f"--hold-out {recipe.held_out:.0f}: {dataset.name} has {samples:,} training samples, some of which must be "
            f"learned; hold out fewer"
        )
    return replace(recipe, held_out=recipe.held_out / samples)


def with_metric(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Returns the recipe with what its figures are, accuracies or errors, if it states no goal.

    Raises:
        UsageError: its goal is another figure than its data gives.
    """
    metric: Metric = "mean_squared_error" if dataset.task == "regression" else "accuracy"
    if recipe.goal == Goal(0.0):
        return replace(recipe, goal=Goal(0.0, metric=metric))
    if recipe.goal.metric != metric:
        raise UsageError(
            f"{recipe.name}: its goal is a bound of {recipe.goal.metric}, but {dataset.name} gives {metric}; correct it"
        )
    return recipe


def _settings(recipe: Recipe, dataset: Dataset, added: dict[str, Any]) -> runs.Settings:
    return runs.Settings(
        recipe=recipe.name,
        seed=recipe.seed,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        hold_out="stratified",
        learner=plain_values.settings(recipe) | added,
    )


def _own_recipe(recipe: Recipe, file: RecipeFile | None) -> runs.OwnRecipe:
    data = recipe.dataset if isinstance(recipe.dataset, str) else None
    return runs.OwnRecipe(sha256=file.sha256 if file else None, data=data, picture=recipe.picture)
