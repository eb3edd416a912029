"""Trains several networks of one recipe and joins them into one."""

from dataclasses import replace

from ..datasets import Dataset, hold_out
from ..progress import say
from ..recipe import KerasRecipe
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
    return replace(recipe, calibrated=False, teacher=None)


REMEDY = Remedy({"ensemble": "ensemble.kind", "members": "ensemble.members"}, _joined)


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
