"""Learners: one module per kind of recipe, each with a `fit` that returns a `Trained` model."""

from ..datasets import Dataset
from ..recipe import BackpropRecipe, KerasRecipe, LogisticRecipe, Recipe
from ..running.checkpoint import Checkpoint
from ..trained import Trained
from . import backprop, distilled, ensemble, logistic, network, transfer

__all__ = ["fit"]


def fit(recipe: Recipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Trained:
    """Trains a recipe on its data set's training split, without reading the test split.

    Args:
        recipe: the recipe to train.
        dataset: the training data.
        checkpoint: keeps a network after each epoch, or each trained model of an ensemble, and is resumed from; None:
            nothing is kept.

    Raises:
        UsageError: the recipe's options do not fit the network.
        SourceError: the checkpoint is damaged.
        WriteError: the checkpoint cannot be written.
        DivergedError: the loss became NaN or infinite.
        WeakMemberError: an ensemble's members are no better than guessing.
    """
    if isinstance(recipe, KerasRecipe):
        if recipe.transfer:
            return transfer.fit(recipe, dataset, checkpoint)
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
