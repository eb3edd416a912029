"""Learners: one module per kind of recipe, each with a `LEARNER` that trains it; see `learner.Learner`."""

from typing import Any

from ..collected import collected
from ..datasets import Dataset
from ..recipe import Recipe
from ..running.checkpoint import Checkpoint
from ..trained import Trained
from .learner import Learner, Remedy

__all__ = ["REMEDIES", "Learner", "Remedy", "fit", "kinds", "of"]

_LEARNERS: dict[type[Recipe], Learner[Any]] = {
    learner.kind: learner for learner in collected(__name__, __path__, "LEARNER")
}

REMEDIES: list[Remedy] = collected(__name__, __path__, "REMEDY")
"""The remedies against overfitting."""


def kinds() -> list[type[Recipe]]:
    """Returns the kinds of recipes that can be trained."""
    return list(_LEARNERS)


def of(recipe: Recipe) -> Learner[Any]:
    """Returns the learner of a recipe's kind.

    Raises:
        TypeError: there is none.
    """
    for kind in type(recipe).__mro__:
        if kind in _LEARNERS:
            return _LEARNERS[kind]
    raise TypeError(f"no learner for a {type(recipe).__name__}")


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
    return of(recipe).fit(recipe, dataset, checkpoint)
