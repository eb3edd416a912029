"""Those who learn: one module for each kind of recipe, each with a `fit` that returns a `Trained` model."""

from ..datasets import Dataset
from ..recipe import BackpropRecipe, KerasRecipe, LogisticRecipe, Recipe
from ..trained import Trained
from . import backprop, ensemble, logistic, network

__all__ = ["fit"]


def fit(recipe: Recipe, dataset: Dataset) -> Trained:
    """Trains a recipe on its data set's training split; the test split is not looked at.

    Raises:
        UsageError: the network cannot be learned as the recipe says.
        DivergedError: the loss became NaN or infinite.
        WeakMemberError: an ensemble's members are no better than guessing.
    """
    if isinstance(recipe, KerasRecipe):
        return ensemble.fit(recipe, dataset) if recipe.ensemble else network.fit(recipe, dataset)
    if isinstance(recipe, BackpropRecipe):
        return backprop.fit(recipe, dataset)
    if isinstance(recipe, LogisticRecipe):
        return logistic.fit(recipe, dataset)
    raise TypeError(f"no learner for a {type(recipe).__name__}")
