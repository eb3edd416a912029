"""Bagging: members learn from different bootstrap samples, and their probabilities are averaged.

Breiman 1996, "Bagging Predictors", which also considers the mean of the members' probabilities.
"""

import numpy as np

from .. import frameworks
from ..datasets import Split
from ..recipe import Ensemble, KerasRecipe
from . import members
from .network import Network


def fit(
    recipe: KerasRecipe, ensemble: Ensemble, train: Split, held_out: Split, classes: int, kept: members.Kept
) -> Network:
    """Trains an ensemble by bagging; see `learners.ensemble.fit`."""
    trained = []
    each = members.recipes(recipe, ensemble)
    for number, one in enumerate(each, start=1):
        members.tell(number, len(each))
        sample = train.take(members.draw(np.random.default_rng(one.seed), len(train)))
        trained.append(kept.train(f"member-{number}", one, one.seed, sample, held_out, classes))
    return members.join(recipe, trained, frameworks.load().keras.layers.Average(name=members.OUTPUT))
