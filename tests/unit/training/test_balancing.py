"""Classes of different size with the same influence on training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pixelserve_training.datasets import Split
from pixelserve_training.learners import balancing, network
from pixelserve_training.recipe import KerasRecipe

TARGETS = np.array([0] * 12 + [1] * 4 + [2] * 2, np.uint8)
TRAIN = Split(np.arange(18, dtype=np.float32).reshape(-1, 1), TARGETS)
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def test_without_a_balance_nothing_changes(small_recipe: KerasRecipe) -> None:
    assert balancing.class_weights(small_recipe, TARGETS) is None
    assert balancing.sampled(small_recipe, TRAIN) is TRAIN


def test_weights_give_each_class_the_same_sum(small_recipe: KerasRecipe) -> None:
    weights = balancing.class_weights(replace(small_recipe, balance="weights"), TARGETS)
    assert weights == pytest.approx({0: 0.5, 1: 1.5, 2: 3.0})
    assert balancing.sampled(replace(small_recipe, balance="weights"), TRAIN) is TRAIN


def test_sampling_repeats_small_classes_evenly_and_leaves_no_sample_out(small_recipe: KerasRecipe) -> None:
    recipe = replace(small_recipe, balance="sampling")
    found = balancing.sampled(recipe, TRAIN)
    assert np.bincount(found.targets).tolist() == [12, 12, 12]
    counts = np.bincount(found.inputs[:, 0].astype(int), minlength=18)
    assert counts[TARGETS == 0].tolist() == [1] * 12
    assert counts[TARGETS == 1].tolist() == [3] * 4
    assert counts[TARGETS == 2].tolist() == [6] * 2
    np.testing.assert_array_equal(balancing.sampled(recipe, TRAIN).inputs, found.inputs)
    assert balancing.class_weights(recipe, TARGETS) is None


@pytest.mark.slow
@pytest.mark.filterwarnings(_KERAS_WARNING)
def test_either_balance_moves_predictions_to_the_small_class(small_recipe: KerasRecipe, keras: Any) -> None:
    random = np.random.default_rng(0)
    labels = np.array([0] * 180 + [1] * 20, np.uint8)
    # Hard to tell apart, so an unbalanced network prefers the large class.
    levels = random.normal(120 + 8 * labels[:, None, None, None], 60, (200, 28, 28, 1)).clip(0, 255).astype(np.uint8)
    train, none = Split(levels, labels), Split(levels[:0], labels[:0])
    shares = {}
    for balance in (None, "weights", "sampling"):
        recipe = replace(small_recipe, balance=balance, epochs=2)
        shares[balance] = float(network.fit_splits(recipe, train, none, classes=2).predict(levels)[:, 1].mean())
    assert shares["weights"] > shares[None] + 0.1
    assert shares["sampling"] > shares[None] + 0.1
