"""Gives classes of different size the same influence on training.

A network that learns far more samples of one class than of another predicts it too often. Balanced, its probabilities
are as if all classes were equally frequent.
"""

import numpy as np

from ..datasets import Array, Split
from ..recipe import KerasRecipe
from .learner import Remedy


def class_weights(recipe: KerasRecipe, targets: Array) -> dict[int, float] | None:
    """Returns the weight of each class in the loss, for Keras's `fit`; None if the recipe has none.

    A class's weight is the mean number of samples of a class, divided by its own.

    Args:
        recipe: the recipe.
        targets: the index of each training sample's label, integers [N].
    """
    if recipe.balance != "weights":
        return None
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.unique(targets)
    weights = compute_class_weight("balanced", classes=classes, y=targets)
    return {int(label): float(weight) for label, weight in zip(classes, weights, strict=True)}


def sampled(recipe: KerasRecipe, train: Split) -> Split:
    """Returns the training samples; those of smaller classes repeated, so each class has as many as the largest.

    Every sample occurs at least once, and equally often within a class but for one.
    """
    if recipe.balance != "sampling":
        return train
    random = np.random.default_rng(recipe.seed)
    classes, sizes = np.unique(train.targets, return_counts=True)
    most = int(sizes.max())
    chosen = [np.resize(random.permutation(np.flatnonzero(train.targets == label)), most) for label in classes]
    return train.take(np.concatenate(chosen))


REMEDY = Remedy(options={"balance": "balance"})
