"""Trains several networks, of one recipe or of several, and joins them into one."""

from dataclasses import replace

from ..datasets import Dataset, hold_out
from ..errors import UsageError
from ..progress import say
from ..recipe import CLASSIFIES, Ensemble, KerasRecipe
from ..running.checkpoint import Checkpoint
from . import bagging, boosting, members, stacking
from .learner import Remedy
from .network import Network

_KINDS = {"bagging": bagging.fit, "boosting": boosting.fit, "stacking": stacking.fit}


def _joined(recipe: KerasRecipe) -> KerasRecipe:
    """Returns the recipe without what its members do without."""
    if recipe.calibrated:
        say(f"an ensemble is not calibrated, as {recipe.name} alone is")
    if recipe.teacher:
        say(f"an ensemble's members learn without the teacher that {recipe.name} alone has")
    if recipe.ensemble is not None and recipe.ensemble.others:
        _check_others(recipe, recipe.ensemble)
    return replace(recipe, calibrated=False, teacher=None)


def _check_others(recipe: KerasRecipe, ensemble: Ensemble) -> None:
    """Checks that the other recipes can be members.

    Raises:
        UsageError: one cannot, or the kind of ensemble has members of one recipe only.
    """
    if ensemble.kind == "boosting":
        raise UsageError("--with: boosting has members of one recipe; use --ensemble stacking or bagging")
    if ensemble.members != Ensemble.members:
        raise UsageError(f"--members {ensemble.members}: with --with there is one member of each recipe; omit one")
    names = [recipe.name, *ensemble.others]
    if doubled := [name for name in ensemble.others if names.count(name) > 1]:
        raise UsageError(f"--with {doubled[0]}: it is a member already; give each recipe once")
    for other in members.others(ensemble):
        if not isinstance(other, type(recipe)) or other.loss not in CLASSIFIES:
            raise UsageError(
                f"--with {other.name}: members are networks that Keras trains, with a probability for each class; this "
                f"is none"
            )
        if other.dataset != recipe.dataset:
            raise UsageError(
                f"--with {other.name}: it learns {other.dataset}, and {recipe.name} {recipe.dataset}; members of an "
                f"ensemble share their data"
            )


REMEDY = Remedy(
    {"ensemble": "ensemble.kind", "members": "ensemble.members", "with": "ensemble.others"},
    _joined,
)


def fit(recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
    """Trains a recipe's ensemble; deterministic for a recipe, data and seed.

    The result is one graph from the network's inputs to probabilities, so it is saved, exported and served like any
    other. The rest of the recipe applies to each member; all are evaluated on the same held-out samples. A stopped run
    continues with its unfinished model and ends with the same weights.

    Args:
        recipe: the recipe to train.
        dataset: its data set.
        checkpoint: keeps each trained model, or None.

    Raises:
        SourceError: a kept model is damaged.
        WriteError: a model cannot be written.
        UsageError: the network cannot be regularised as the recipe says, or there are too few samples to stack.
        DivergedError: a member's loss became NaN or infinite.
        WeakMemberError: boosting has fewer than two members better than guessing.
    """
    if recipe.ensemble is None:
        raise ValueError(f"{recipe.name} has no ensemble")
    splits = hold_out(dataset.train, recipe.held_out)
    return _KINDS[recipe.ensemble.kind](recipe, recipe.ensemble, *splits, len(dataset.labels), members.Kept(checkpoint))
