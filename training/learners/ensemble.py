"""Learns several networks of one recipe, and makes one network of them."""

from ..datasets import Dataset, hold_out
from ..recipe import KerasRecipe
from ..running.checkpoint import Checkpoint
from . import bagging, boosting, members, stacking
from .network import Network

_KINDS = {"bagging": bagging.fit, "boosting": boosting.fit, "stacking": stacking.fit}


def fit(recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
    """Trains the ensemble that a recipe asks for; the same recipe, data and seed give the same weights.

    The result takes what the recipe's network takes and gives probabilities, in one graph, so that it is saved,
    exported and served as any other. Whatever else the recipe says holds for each member; all are watched on the same
    held-out samples. A run that was stopped goes on with the model that was under way, and ends with the same weights.

    Args:
        recipe: what is trained.
        dataset: what it learns from.
        checkpoint: where each trained model is kept; None: none is.

    Raises:
        SourceError: a model that was kept is damaged.
        WriteError: the disk does not take a model.
        UsageError: the network cannot be regularised as the recipe says, or there are too few samples to stack.
        DivergedError: a member's loss became NaN or infinite.
        WeakMemberError: boosting has fewer than two members that are better than guessing.
    """
    if recipe.ensemble is None:
        raise ValueError(f"{recipe.name} asks for no ensemble")
    splits = hold_out(dataset.train, recipe.held_out)
    return _KINDS[recipe.ensemble.kind](recipe, recipe.ensemble, *splits, len(dataset.labels), members.Kept(checkpoint))
