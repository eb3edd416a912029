"""Those who learn: one module for each kind of recipe, each with a `fit` that returns a `Trained` model."""

from ..datasets import Dataset
from ..recipe import BackpropRecipe, KerasRecipe, LogisticRecipe, Recipe
from ..running.checkpoint import Checkpoint
from ..trained import Trained
from . import backprop, distilled, ensemble, logistic, network

__all__ = ["fit"]


def fit(recipe: Recipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Trained:
    """Trains a recipe on its data set's training split; the test split is not looked at.

    Args:
        recipe: what is trained.
        dataset: what it learns from.
        checkpoint: where a network is kept after each epoch, or each trained model of an ensemble, and what it goes on
            from; None: nothing is kept.

    Raises:
        UsageError: the network cannot be learned as the recipe says.
        SourceError: the checkpoint is damaged.
        WriteError: the disk does not take the checkpoint.
        DivergedError: the loss became NaN or infinite.
        WeakMemberError: an ensemble's members are no better than guessing.
    """
    if isinstance(recipe, KerasRecipe):
        if recipe.ensemble:
            return ensemble.fit(recipe, dataset, checkpoint)
        if recipe.teacher:
            return distilled.fit(recipe, dataset, checkpoint)
        return network.fit(recipe, dataset, checkpoint)
    if isinstance(recipe, BackpropRecipe):
        return backprop.fit(recipe, dataset)
    if isinstance(recipe, LogisticRecipe):
        return logistic.fit(recipe, dataset)
    raise TypeError(f"no learner for a {type(recipe).__name__}")
