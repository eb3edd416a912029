"""Stacking: a meta-learner combines members, trained on their predictions for samples they have not seen.

Wolpert 1992, "Stacked Generalization". A linear model on class probabilities follows Ting and Witten
1999, "Issues in Stacked Generalization"; here it is multinomial logistic regression.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import frameworks
from ..datasets import Array, Split, stratified_folds
from ..progress import say
from ..recipe import Ensemble, KerasRecipe
from . import members
from .network import Network

# Logit of a class without training samples: its probability is 0 in float32.
_NEVER = -200.0


def fit(
    recipe: KerasRecipe, ensemble: Ensemble, train: Split, held_out: Split, classes: int, kept: members.Kept
) -> Network:
    """Trains an ensemble by stacking; see `learners.ensemble.fit`.

    Each member is trained once per fold, on the other folds, to predict unseen samples, and once more on all samples
    for the result.

    Raises:
        UsageError: a class has fewer training samples than there are folds.
    """
    trained, said = [], []
    each = members.recipes(recipe, ensemble)
    for number, one in enumerate(each, start=1):
        tell = partial(members.tell, number, len(each))
        said.append(_out_of_fold(one, ensemble.folds, number, tell, train, held_out, classes, kept))
        tell(", on all samples")
        trained.append(kept.train(f"member-{number}", one, one.seed, train, held_out, classes))
    say(f"learning to combine {len(each)} members from {len(train):,} samples")
    kernel, bias = learn_to_combine(said, train.targets)
    return members.join(recipe, trained, lambda outputs: _combined(outputs, kernel, bias))


def _out_of_fold(
    recipe: KerasRecipe,
    folds: int,
    number: int,
    tell: Callable[[str], None],
    train: Split,
    held_out: Split,
    classes: int,
    kept: members.Kept,
) -> Array:
    """Returns a member's out-of-fold predictions, float [N, classes]."""
    places, scores = [], []
    for fold_number, (others, fold) in enumerate(stratified_folds(train, folds), start=1):
        tell(f", fold {fold_number} of {folds}")
        name = f"member-{number}-fold-{fold_number}"
        places.append(fold)
        member = kept.train(name, recipe, recipe.seed, train.take(others), held_out, classes)
        scores.append(member.predict(train.inputs[fold]))
    by_fold = np.concatenate(scores)
    said = np.empty_like(by_fold)
    said[np.concatenate(places)] = by_fold
    return said


def learn_to_combine(said: Sequence[Array], labels: Array) -> tuple[Array, Array]:
    """Returns kernel float32 [members * classes, classes] and bias float32 [classes] of the meta-learner.

    Args:
        said: each member's predictions, float [N, classes].
        labels: the index of each sample's label, integer [N].
    """
    from sklearn.linear_model import LogisticRegression

    features, classes = np.concatenate(said, axis=1), said[0].shape[1]
    learned = LogisticRegression(max_iter=1000).fit(features, labels)
    kernel, bias = np.zeros((features.shape[1], classes)), np.full(classes, _NEVER)
    if len(learned.classes_) == 2:
        # For two classes scikit-learn has only the second logit; the first is 0.
        bias[learned.classes_[0]] = 0
        kernel[:, learned.classes_[1]], bias[learned.classes_[1]] = learned.coef_[0], learned.intercept_[0]
    else:
        kernel[:, learned.classes_], bias[learned.classes_] = learned.coef_.T, learned.intercept_
    return kernel.astype(np.float32), bias.astype(np.float32)


def _combined(outputs: list[Any], kernel: Array, bias: Array) -> Any:
    layers = frameworks.load().keras.layers
    features = layers.Concatenate(name="members")(outputs)
    meta_learner = layers.Dense(len(bias), activation="softmax", name=members.OUTPUT)
    probabilities = meta_learner(features)
    meta_learner.set_weights([kernel, bias])
    return probabilities
