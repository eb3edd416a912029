"""Who learns from what in an ensemble, with members that need no network."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from pixelserve_training.datasets import Array, Dataset, Split
from pixelserve_training.errors import UsageError, WeakMemberError
from pixelserve_training.learners import boosting, ensemble, members, stacking
from pixelserve_training.learners.boosting import reweight
from pixelserve_training.recipe import Ensemble, KerasRecipe

# `small_recipe` loads Keras, and stacking scikit-learn.
pytestmark = pytest.mark.slow

_LABELS = np.arange(30) % 3
# Samples that tell which they are: each one's only input is its index.
_TRAIN = Split(np.arange(30)[:, np.newaxis], _LABELS)
_DATASET = Dataset("toy", "tabular", ("a", "b", "c"), _TRAIN, _TRAIN.take(np.arange(0)), sha256="")


def test_a_bootstrap_sample_is_drawn_with_replacement() -> None:
    drawn = members.draw(np.random.default_rng(7), 1000)
    np.testing.assert_array_equal(drawn, np.random.default_rng(7).integers(0, 1000, 1000))
    assert len(np.unique(drawn)) / 1000 == pytest.approx(1 - 1 / math.e, abs=0.02)


def test_a_weighted_sample_is_drawn_by_the_weights() -> None:
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    drawn = members.draw(np.random.default_rng(7), 4, weights)
    by_hand = np.searchsorted(np.cumsum(weights), np.random.default_rng(7).random(4), side="right")
    np.testing.assert_array_equal(drawn, by_hand)
    assert set(members.draw(np.random.default_rng(0), 3, np.array([0.0, 1.0, 0.0]))) == {1}


def test_samme_weighs_as_computed_by_hand() -> None:
    done = reweight(np.full(4, 0.25), np.array([True, False, False, False]), classes=3)
    assert done.error == 0.25
    assert done.vote == pytest.approx(math.log(6))
    np.testing.assert_allclose(done.weights, [6 / 9, 1 / 9, 1 / 9, 1 / 9])
    again = reweight(done.weights, np.array([False, True, False, False]), classes=3)
    assert again.vote == pytest.approx(math.log(16))
    np.testing.assert_allclose(again.weights, [6 / 24, 16 / 24, 1 / 24, 1 / 24])


def test_a_member_that_guesses_has_no_vote_and_one_without_mistakes_a_finite_one() -> None:
    guessed = reweight(np.full(3, 1 / 3), np.array([True, True, False]), classes=3)
    assert guessed.vote == pytest.approx(0, abs=1e-12)
    perfect = reweight(np.full(4, 0.25), np.zeros(4, bool), classes=3)
    assert perfect.vote == pytest.approx(math.log(14))
    np.testing.assert_allclose(perfect.weights, 0.25)
    assert reweight(np.full(4, 0.25), np.ones(4, bool), classes=3).vote < 0


@dataclass
class Memory:
    """A member that is sure of the samples that it has learned from, and says the same of all others."""

    learned: Split
    other: tuple[float, ...] = (0.2, 0.3, 0.5)

    def predict(self, inputs: Array) -> Array:
        known = dict(zip(self.learned.inputs[:, 0].tolist(), self.learned.targets.tolist(), strict=True))
        rows = [np.eye(3)[known[index]] if index in known else self.other for index in inputs[:, 0].tolist()]
        return np.array(rows)


@dataclass
class Joined:
    """What an ensemble would have been made of."""

    members: list[Memory]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Split]]:
    """Replaces training by memory; returns seeds and samples of all members, in the order of their training."""
    calls: list[tuple[int, Split]] = []

    def train(recipe: KerasRecipe, seed: int, split: Split, held_out: Split, classes: int) -> Memory:
        calls.append((seed, split))
        return Memory(split)

    monkeypatch.setattr(members, "train", train)
    monkeypatch.setattr(members, "join", lambda recipe, given, combine: Joined(list(given)))
    return calls


def fit(recipe: KerasRecipe, kind: Any, **options: int) -> Any:
    return ensemble.fit(replace(recipe, ensemble=Ensemble(kind, **options)), _DATASET)


def test_every_member_of_a_bag_has_a_seed_and_a_bootstrap_sample_of_its_own(
    small_recipe: KerasRecipe, trained: list[tuple[int, Split]]
) -> None:
    fit(small_recipe, "bagging", members=3)
    seeds = members.seeds(small_recipe, 3)
    assert [seed for seed, _ in trained] == seeds
    assert len(set(seeds)) == 3
    for seed, split in trained:
        np.testing.assert_array_equal(split.inputs[:, 0], np.random.default_rng(seed).integers(0, 30, 30))
    assert members.seeds(replace(small_recipe, seed=1), 3) != seeds


def test_a_boosted_member_learns_more_from_what_those_before_it_got_wrong(
    small_recipe: KerasRecipe, trained: list[tuple[int, Split]]
) -> None:
    fit(small_recipe, "boosting", members=2)
    (_, first), (seed, second) = trained
    wrong = Memory(first).predict(_TRAIN.inputs).argmax(axis=1) != _LABELS
    weights = reweight(np.full(30, 1 / 30), wrong, classes=3).weights
    np.testing.assert_array_equal(second.inputs[:, 0], members.draw(np.random.default_rng(seed), 30, weights))
    assert np.isin(second.inputs[:, 0], np.flatnonzero(wrong)).mean() > wrong.mean()


@pytest.mark.parametrize(("good", "outcome"), [(0, None), (1, None), (2, 2)])
def test_boosting_ends_before_a_member_that_is_no_better_than_guessing(
    small_recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch, good: int, outcome: int | None, trained: Any
) -> None:
    def train(recipe: KerasRecipe, seed: int, split: Split, held_out: Split, classes: int) -> Memory:
        trained.append(seed)
        shifted = Split(_TRAIN.inputs, (_LABELS + 1) % 3)
        return Memory(split) if len(trained) <= good else Memory(shifted)

    monkeypatch.setattr(boosting.members, "train", train)
    if outcome is None:
        with pytest.raises(WeakMemberError, match=f"member {good + 1} of small's ensemble is no better than guessing"):
            fit(small_recipe, "boosting", members=4)
    else:
        assert len(fit(small_recipe, "boosting", members=4).members) == outcome


def test_the_meta_learner_never_sees_what_a_member_says_of_samples_that_it_learned_from(
    small_recipe: KerasRecipe, trained: list[tuple[int, Split]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Array]] = []

    def learn_to_combine(said: list[Array], labels: Array) -> tuple[Array, Array]:
        seen.append(said)
        np.testing.assert_array_equal(labels, _LABELS)
        return np.zeros((6, 3)), np.zeros(3)

    monkeypatch.setattr(stacking, "learn_to_combine", learn_to_combine)
    joined = fit(small_recipe, "stacking", members=2, folds=5)
    assert [len(split) for _, split in trained] == [*([24] * 5), 30] * 2
    assert len(seen[0]) == 2
    for said in seen[0]:
        np.testing.assert_array_equal(said, np.broadcast_to(Memory(_TRAIN).other, (30, 3)))
    # What is served has learned from all samples.
    assert [len(member.learned) for member in joined.members] == [30, 30]


def test_what_is_said_of_a_sample_stands_at_the_samples_place(
    small_recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch, trained: Any
) -> None:
    class Echo:
        def predict(self, inputs: Array) -> Array:
            return np.repeat(inputs, 3, axis=1)

    def learn_to_combine(said: list[Array], labels: Array) -> tuple[Array, Array]:
        np.testing.assert_array_equal(said[0][:, 0], np.arange(30))
        return np.zeros((6, 3)), np.zeros(3)

    monkeypatch.setattr(members, "train", lambda *_: Echo())
    monkeypatch.setattr(stacking, "learn_to_combine", learn_to_combine)
    fit(small_recipe, "stacking", members=2)


def test_too_few_samples_to_stack_are_refused(small_recipe: KerasRecipe, trained: Any) -> None:
    with pytest.raises(UsageError, match="11 folds need 11 training samples of every class"):
        fit(small_recipe, "stacking", members=2, folds=11)


@pytest.mark.parametrize("present", [[0, 1, 2, 3], [0, 2, 3], [1, 3]])
def test_the_meta_learner_is_logistic_regression_and_never_chooses_a_class_without_samples(present: list[int]) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    said = [random.dirichlet(np.ones(4), 60) for _ in range(2)]
    labels = np.array(present)[np.arange(60) % len(present)]
    kernel, bias = stacking.learn_to_combine(said, labels)
    features = np.concatenate(said, axis=1)
    logits = features @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = LogisticRegression(max_iter=1000).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(probabilities[:, present], expected, atol=1e-6)
    assert probabilities[:, present].sum(axis=1) == pytest.approx(np.ones(60))
