"""Every recipe matches its description, and its training loop runs on real images."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks, zoo
from pixelserve_training.learners import network
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.zoo import augmentation, blocks
from pixelserve_training.zoo.augmentation import random_affine

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
NETWORKS = [recipe for recipe in zoo.recipes() if isinstance(recipe, KerasRecipe)]
IMAGE_NETWORKS = [recipe for recipe in NETWORKS if recipe.dataset in ("mnist", "fashion-mnist", "cifar10")]
MODULES: dict[str, Any] = {module.RECIPE.name: module for module in vars(zoo).values() if hasattr(module, "RECIPE")}

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


@pytest.mark.parametrize("recipe", NETWORKS, ids=lambda recipe: recipe.name)
def test_a_network_has_the_parameters_that_its_recipe_says(recipe: KerasRecipe) -> None:
    classes = 10 if recipe in IMAGE_NETWORKS else len(datasets.load(recipe.dataset, None).labels)
    assert recipe.build(classes).count_params() == recipe.parameters


@pytest.mark.parametrize("recipe", IMAGE_NETWORKS, ids=lambda recipe: recipe.name)
def test_an_image_network_takes_raw_pixels_and_gives_probabilities(recipe: KerasRecipe) -> None:
    model = recipe.build(10)
    assert model.inputs[0].dtype == "uint8"
    images = datasets.load(recipe.dataset, TINY).test.inputs[:4]
    np.testing.assert_allclose(model.predict(images, verbose=0).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_the_header_names_the_figure_that_the_recipe_claims(recipe: Any) -> None:
    header = MODULES[recipe.name].__doc__
    shown = f"{100 * recipe.claimed:.2f} %" if recipe.goal.metric == "accuracy" else f"{recipe.claimed:.4g}"
    assert header.startswith(f"{recipe.name}: ")
    assert shown in header
    assert f"pixelserve train {recipe.name}" in header


@pytest.mark.parametrize("recipe", [each for each in zoo.recipes() if each.dataset in datasets.IMAGE_SHAPES])
def test_an_image_recipe_holds_out_10000_images(recipe: Any) -> None:
    assert round(recipe.held_out * (50_000 if recipe.dataset == "cifar10" else 60_000)) == 10_000


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_reaches_its_goal_or_its_header_says_that_it_does_not(recipe: Any) -> None:
    header = " ".join(MODULES[recipe.name].__doc__.split())
    says_missed = f"the goal of {100 * recipe.goal.bound:.2f} % is missed" in header
    assert says_missed != recipe.goal.reached(recipe.claimed)


def test_what_is_trained_in_mixed_precision_is_kept_in_float32(small_recipe: KerasRecipe) -> None:
    build = partial(blocks.whitened_network, name="small", shape=(28, 28, 1), widths=(2, 4, 4))
    recipe = replace(small_recipe, build=build, initialize=blocks.whiten, precision="mixed_bfloat16", batch_size=100)
    trained = network.fit(recipe, datasets.load("mnist", TINY))
    assert {layer.dtype_policy.name for layer in trained.model.layers} <= {"float32", "uint8"}
    kinds = {layer.__class__ for layer in trained.model.layers}
    assert frameworks.load().keras.layers.BatchNormalization in kinds
    assert blocks._fused_batch_normalization() not in kinds
    assert blocks._fused_silu() not in kinds


def test_a_flagships_seed_gives_the_same_weights_each_time() -> None:
    """Mixed images, augmentation, and what TensorFlow and XLA compute on several threads in bfloat16 come after it."""
    recipe, dataset = replace(zoo.find("cifar10"), epochs=2, batch_size=50), datasets.load("cifar10", TINY)
    first, second = (network.fit(recipe, dataset).model.get_weights() for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def test_the_fused_normalisation_computes_what_keras_computes(keras: Any) -> None:
    features = np.random.default_rng(0).normal(3, 2, size=(8, 4, 4, 16)).astype(np.float32)
    options = {"momentum": 0.9, "scale": False}
    fused, plain = blocks._fused_batch_normalization()(**options), keras.layers.BatchNormalization(**options)
    np.testing.assert_allclose(fused(features, training=True), plain(features, training=True), atol=1e-4)
    for ours, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        # TensorFlow's kernel takes the unbiased variance: 128 samples a channel here.
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(fused(features, training=False), plain(features, training=False), rtol=0.02, atol=0.02)


def test_the_fused_normalisation_shifts_faster_than_keras_and_by_no_other_value(keras: Any) -> None:
    tf = frameworks.load().tf
    features = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype(np.float32)
    gradients = {}
    for layer in (blocks._fused_batch_normalization()(scale=False), keras.layers.BatchNormalization(scale=False)):
        layer.build(features.shape)
        layer.beta.assign([1.0, -2.0, 3.0])
        with tf.GradientTape() as tape:
            outputs = layer(features, training=True)
            summed = tf.reduce_sum(outputs * np.array([1.0, 2.0, 3.0], np.float32))
        np.testing.assert_allclose(outputs.numpy().mean(axis=(0, 1, 2)), [1, -2, 3], atol=1e-4)
        gradients[type(layer).__name__] = tape.gradient(summed, layer.beta.value).numpy()
    np.testing.assert_allclose(gradients["FusedBatchNormalization"], 64 * gradients["BatchNormalization"], rtol=1e-4)


def test_whitening_gives_components_of_patches_that_do_not_go_together(keras: Any) -> None:
    images = datasets.load("cifar10", TINY).train.inputs
    model = blocks.whitened_network(10, name="small", shape=(32, 32, 3), widths=(4, 4, 4))
    blocks.whiten(model, images)
    layer = model.get_layer("whitening")
    components = np.asarray(keras.Model(model.input, layer.output).predict(images, verbose=0)).reshape(-1, 24)
    # Some processors' kernels add the products of the two halves in different orders.
    np.testing.assert_allclose(components[:, :12], -components[:, 12:], rtol=0, atol=1e-5)
    covariance = components[:, :12].T @ components[:, :12] / len(components)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-2)
    # The least of them differ so little from pixel to pixel that they are not raised to 1.
    assert np.diag(covariance).max() == pytest.approx(1, abs=0.01)
    assert not layer.trainable_weights


def test_pixels_pass_through_a_convolution_that_was_set_by_whiten(keras: Any) -> None:
    model = blocks.whitened_network(10, name="small", shape=(28, 28, 1), widths=(16, 4, 8))
    blocks.whiten(model, datasets.load("mnist", TINY).train.inputs)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    assert len(convolutions) == 6
    for layer in convolutions:
        features = np.random.default_rng(0).normal(size=(2, 7, 7, layer.input.shape[-1])).astype(np.float32)
        passed = min(layer.input.shape[-1], layer.filters)
        np.testing.assert_array_equal(np.asarray(layer(features))[..., :passed], features[..., :passed])


def test_held_out_samples_are_never_learned_from() -> None:
    split = datasets.load("mnist", TINY).train
    learned, held_out = datasets.hold_out(split, 0.25)
    assert (len(learned), len(held_out)) == (150, 50)
    rows = [image.tobytes() for image in (*learned.inputs, *held_out.inputs)]
    assert sorted(rows) == sorted(image.tobytes() for image in split.inputs)
    again = datasets.hold_out(split, 0.25)[1]
    np.testing.assert_array_equal(held_out.inputs, again.inputs)


def test_an_epochs_batches_hold_each_sample_once_in_an_order_by_the_seed_and_the_epoch() -> None:
    inputs, targets = np.arange(10, dtype=np.uint8)[:, None], np.arange(10, dtype=np.int64)

    def epochs(seed: int) -> list[list[int]]:
        frameworks.load().keras.utils.set_random_seed(seed)
        batches = network._batches(inputs, targets, 4, shuffled=True)
        assert int(batches.cardinality()) == 3
        orders = []
        for _ in range(3):
            epoch = [(x.numpy()[:, 0].tolist(), y.numpy().tolist()) for x, y in batches]
            assert [len(x) for x, _ in epoch] == [4, 4, 2]
            assert all(x == y for x, y in epoch)
            orders.append([sample for x, _ in epoch for sample in x])
        return orders

    orders = [*epochs(0), *epochs(1)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 6
    assert len({tuple(order) for order in orders}) == 6
    assert [*epochs(0), *epochs(1)] == orders


def test_each_epoch_of_a_fit_has_its_own_order(keras: Any) -> None:
    keras.utils.set_random_seed(0)
    seen: list[list[float]] = []

    def watched(targets: Any, predictions: Any) -> Any:
        seen.append(targets.numpy().tolist())
        return keras.losses.mean_squared_error(targets, predictions)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss=watched, run_eagerly=True)
    inputs = np.arange(8, dtype=np.float32)[:, None]
    model.fit(network._batches(inputs, inputs[:, 0], 8, shuffled=True), epochs=3, shuffle=False, verbose=0)
    assert [sorted(np.ravel(epoch).tolist()) for epoch in seen] == [list(range(8))] * 3
    assert len({str(epoch) for epoch in seen}) == 3


def test_batches_that_are_not_shuffled_come_in_the_samples_order() -> None:
    inputs, targets = np.arange(10, dtype=np.uint8)[:, None], np.arange(10, dtype=np.int64)
    assert [y.numpy().tolist() for _, y in network._batches(inputs, targets, 5)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    # Its thread would keep an epoch's end waiting.
    assert not network._batches(inputs, targets, 5).options().autotune.enabled


def test_an_affine_change_leaves_its_share_of_images_as_they_are(keras: Any) -> None:
    images = datasets.load("mnist", TINY).train.inputs.astype(np.float32)
    keras.utils.set_random_seed(0)
    layer = random_affine(rotation_degrees=15, shear_degrees=10, zoom=0.1, shift_pixels=2, share=0.75)
    changed = np.asarray(layer(images, training=True))
    assert changed.shape == images.shape
    same = [np.array_equal(before, after) for before, after in zip(images, changed, strict=True)]
    assert 0.15 < np.mean(same) < 0.35
    np.testing.assert_array_equal(layer(images, training=False), images)


def test_an_affine_change_turns_about_the_images_centre(keras: Any) -> None:
    image = np.zeros((1, 5, 5, 1), np.float32)
    image[0, 2, 2], image[0, 2, 4] = 1, 2
    ops = keras.ops
    quarter, none = ops.convert_to_tensor([np.pi / 2], "float32"), ops.zeros((1,))
    turn = augmentation._transforms(ops, quarter, none, [none, none], [none, none], (2.0, 2.0))
    turned = np.asarray(ops.image.affine_transform(image, turn, interpolation="nearest"))[0, :, :, 0]
    assert turned[2, 2] == 1
    assert (turned[0, 2], turned[2, 4]) == (2, 0)
    shift = augmentation._transforms(ops, none, none, [none, none], [ops.ones((1,)), none], (2.0, 2.0))
    assert np.asarray(ops.image.affine_transform(image, shift, interpolation="nearest"))[0, 2, 3, 0] == 2
