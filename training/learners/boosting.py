"""Boosting: each member focuses on the samples that the members before it got wrong.

SAMME, of Zhu, Zou, Rosset and Hastie 2009, "Multi-class AdaBoost", algorithm 2, by resampling: a member learns from a
sample that is drawn by the weights (Freund and Schapire 1996, "Experiments with a New Boosting Algorithm").

In the paper each member votes for one class. Here a member's vote is spread over the classes by its probabilities: a
vote for one class flips when two are nearly equal, and there the exported model, which rounds differently, would
disagree with the original.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import frameworks
from ..datasets import Split
from ..errors import WeakMemberError
from ..progress import say
from ..recipe import Ensemble, KerasRecipe
from . import members
from .network import Network

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """The result of a member's mistakes."""

    error: float
    """The weight of misclassified samples, a fraction of all weights."""
    vote: float
    """Its weight among the members; at most 0 if it is no better than guessing."""
    weights: Weights
    """The samples' weights for the next member, float64 [N], summing to 1."""


def reweight(weights: Weights, wrong: npt.NDArray[np.bool_], classes: int) -> Round:
    """Returns a round of SAMME: algorithm 2, steps 2(b) to 2(e).

    error = sum of the weights of misclassified samples; vote = ln((1 - error) / error) + ln(classes - 1); the weights
    of misclassified samples are multiplied by exp(vote), and all are normalised.

    Args:
        weights: float64 [N], the samples' weights, summing to 1.
        wrong: bool [N], the misclassified samples.
        classes: number of classes.
    """
    error = float(weights[wrong].sum())
    # Half of the smallest possible error: a member without mistakes would have an infinite vote.
    floor = 0.5 * float(weights.min())
    bounded = min(max(error, floor), 1 - floor)
    vote = math.log((1 - bounded) / bounded) + math.log(classes - 1)
    raised = np.where(wrong, weights * math.exp(vote), weights)
    return Round(error, vote, raised / raised.sum())


def fit(
    recipe: KerasRecipe, ensemble: Ensemble, train: Split, held_out: Split, classes: int, kept: members.Kept
) -> Network:
    """Trains an ensemble by boosting; see `learners.ensemble.fit`.

    Boosting ends early if a member is no better than guessing on the weighted samples; that one is discarded.

    Raises:
        WeakMemberError: fewer than two members are left.
    """
    weights = np.full(len(train), 1 / len(train))
    trained: list[Network] = []
    votes: list[float] = []
    for number, seed in enumerate(members.seeds(recipe, ensemble.members), start=1):
        members.tell(number, ensemble.members)
        sample = train.take(members.draw(np.random.default_rng(seed), len(train), weights))
        member = kept.train(f"member-{number}", recipe, seed, sample, held_out, classes)
        scores = member.predict(train.inputs)
        done = reweight(weights, scores.argmax(axis=1) != train.targets, scores.shape[1])
        say(f"member {number} of {ensemble.members}: weighted error {done.error:.2%}, vote {done.vote:.3f}")
        if done.vote <= 0:
            break
        weights = done.weights
        trained.append(member)
        votes.append(done.vote)
    _check(recipe, ensemble, len(trained))
    return members.join(recipe, trained, lambda outputs: _weighted_mean(outputs, votes))


def _check(recipe: KerasRecipe, ensemble: Ensemble, left: int) -> None:
    if left < 2:
        raise WeakMemberError(
            f"member {left + 1} of {recipe.name}'s ensemble is no better than guessing, and boosting needs two better "
            f"members; try more --epochs, or --ensemble bagging"
        )
    if left < ensemble.members:
        say(f"member {left + 1} is no better than guessing: boosting stops with {left} members")


def _weighted_mean(outputs: Sequence[Any], votes: Sequence[float]) -> Any:
    layers = frameworks.load().keras.layers
    shares = [vote / sum(votes) for vote in votes]
    weighted = [layers.Rescaling(share)(output) for share, output in zip(shares, outputs, strict=True)]
    return layers.Add(name=members.OUTPUT)(weighted)
