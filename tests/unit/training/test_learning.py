"""What a network learns from, how fast, and what becomes of its training images."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, zoo
from pixelserve_training.datasets import Array, Split
from pixelserve_training.learners import network
from pixelserve_training.measuring import calibrate
from pixelserve_training.recipe import KerasRecipe, Optimizer
from pixelserve_training.zoo import augmentation

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

AUGMENTED = [recipe for recipe in zoo.recipes() if isinstance(recipe, KerasRecipe) and recipe.augmentation]


def test_the_temperature_is_found_on_the_held_out_samples(
    small_recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    samples = Split(random.integers(0, 256, (24, 28, 28, 1), dtype=np.uint8), random.integers(0, 10, 24))
    seen: list[list[int]] = []
    monkeypatch.setattr(calibrate, "LEAST_SAMPLES", 8)
    monkeypatch.setattr(network, "find_temperature", lambda _, labels: seen.append(labels.tolist()) or 2.0)
    train, held_out = samples.take(np.arange(16)), samples.take(np.arange(16, 24))
    trained = network.fit_splits(replace(small_recipe, calibrated=True), train, held_out, classes=10)
    assert (trained.temperature, seen) == (2.0, [held_out.targets.tolist()])


def test_the_step_size_rises_over_its_share_of_all_steps_and_reaches_0_with_the_last(small_recipe: KerasRecipe) -> None:
    optimizer = Optimizer("sgd", 0.5, "cosine", warmup=1 / 3)
    learner = network._learner(replace(small_recipe, optimizer=optimizer, epochs=3, batch_size=32), 10)
    # Three batches an epoch, the last of which is not full.
    learner.compile(70)
    rate = learner.augmented.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 3, 6, 9)] == pytest.approx([0, 0.5, 0.25, 0], abs=1e-6)


def test_a_network_ends_with_the_moving_average_of_its_weights(small_recipe: KerasRecipe) -> None:
    random = np.random.default_rng(0)
    samples = Split(random.integers(0, 256, (16, 28, 28, 1), dtype=np.uint8), random.integers(0, 10, 16))

    def weights(epochs: int, averaging: float | None = None) -> list[Array]:
        recipe = replace(small_recipe, epochs=epochs, optimizer=Optimizer("sgd", 0.1, averaging=averaging))
        trained = network.fit_splits(recipe, samples, samples.take(np.arange(0)), classes=10)
        return list(trained.model.get_weights())

    # One step an epoch; the average begins with the first step's weights.
    for average, first, second in zip(weights(2, averaging=0.75), weights(1), weights(2), strict=True):
        np.testing.assert_allclose(average, 0.75 * first + 0.25 * second, atol=1e-5)
        assert not np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("recipe", AUGMENTED, ids=lambda recipe: recipe.name)
def test_training_images_stay_upright_and_only_things_are_mirrored(recipe: KerasRecipe, keras: Any) -> None:
    keras.utils.set_random_seed(0)
    height, width, channels = recipe.build(10).input_shape[1:]
    ramp = np.linspace(0, 255, height, dtype=np.float32)[:, None, None] * np.ones((height, width, channels), np.float32)
    assert not _turned(recipe, ramp, axis=1).any()
    mirrored = _turned(recipe, ramp.transpose(1, 0, 2), axis=2)
    # A digit in a mirror is none.
    assert mirrored.any() == (recipe.dataset != "mnist")
    assert not mirrored.all()


def _turned(recipe: KerasRecipe, ramp: Array, *, axis: int) -> Array:
    """Returns which of many augmented ramps fall along an axis: bool [N]."""
    assert recipe.augmentation is not None
    images = np.repeat(ramp[np.newaxis], 64, axis=0)
    for layer in recipe.augmentation():
        images = layer(images, training=True)
    first, second = np.split(np.asarray(images), 2, axis=axis)
    return np.asarray(first.mean(axis=(1, 2, 3)) > second.mean(axis=(1, 2, 3)))


def test_each_affine_change_is_drawn_from_its_own_range(keras: Any) -> None:
    keras.utils.set_random_seed(0)
    layer = augmentation.random_affine(rotation_degrees=15, shear_degrees=10, zoom=0.1, shift_pixels=2, share=1)
    most = [float(np.abs(drawn).max()) for drawn in layer._draw(2000)]
    assert most == pytest.approx([np.radians(15), np.radians(10), 0.1, 0.1, 2, 2], rel=0.01)


def test_an_affine_change_shifts_along_both_axes_alike(keras: Any) -> None:
    none, one = keras.ops.zeros((1,)), keras.ops.ones((1,))
    (shift,) = np.asarray(augmentation._transforms(keras.ops, none, none, [none, none], [one, one], (2.0, 2.0)))
    assert shift.tolist() == [1, 0, 1, 0, 1, 1, 0, 0]


def test_the_held_out_samples_are_those_of_every_earlier_run() -> None:
    split = Split(np.arange(10), np.arange(10))
    assert datasets.hold_out(split, 0.3)[1].targets.tolist() == [8, 4, 7]


def test_the_folds_are_those_of_every_earlier_run() -> None:
    split = Split(np.arange(12), np.arange(12) % 2)
    assert [fold.tolist() for _, fold in datasets.stratified_folds(split, 3)] == [
        [2, 5, 6, 11],
        [0, 3, 8, 9],
        [1, 4, 7, 10],
    ]
