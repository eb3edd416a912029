"""Every recipe is what it says, and its real loop runs on real images."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks, zoo
from pixelserve_training.learners import network
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import fit
from pixelserve_training.running.fit import Overrides
from pixelserve_training.zoo import blocks

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
NETWORKS = [recipe for recipe in zoo.recipes() if isinstance(recipe, KerasRecipe)]
IMAGE_NETWORKS = [recipe for recipe in NETWORKS if recipe.dataset in ("mnist", "fashion-mnist", "cifar10")]
MODULES: dict[str, Any] = {module.RECIPE.name: module for module in zoo._MODULES}

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


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_claims_to_reach_its_goal(recipe: Any) -> None:
    assert recipe.goal.reached(recipe.claimed)


@pytest.mark.parametrize("recipe", IMAGE_NETWORKS, ids=lambda recipe: recipe.name)
def test_the_real_loop_runs_on_real_images(recipe: KerasRecipe, tmp_path: Path) -> None:
    run = fit.train(recipe.name, data_dir=TINY, run_dir=tmp_path / "run", overrides=Overrides(epochs=1, batch_size=64))
    history = json.loads((run.folder / "history.json").read_text())
    assert len(history["loss"]) == 1
    assert ("val_accuracy" in history) == (recipe.held_out > 0)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["test"]["samples"] == 100
    assert (metrics["temperature"] is not None) == recipe.calibrated
    assert all((run.folder / f"model{suffix}").is_file() for suffix in (".keras", *recipe.also_saved_as))


def test_what_is_trained_in_mixed_precision_is_kept_in_float32(small_recipe: KerasRecipe) -> None:
    build = partial(blocks.residual_network, name="small", shape=(28, 28, 1), widths=(2, 2, 4, 4))
    recipe = replace(small_recipe, build=build, precision="mixed_bfloat16", batch_size=100)
    trained = network.fit(recipe, datasets.load("mnist", TINY))
    assert {layer.dtype_policy.name for layer in trained.model.layers} <= {"float32", "uint8"}
    kinds = {layer.__class__ for layer in trained.model.layers}
    assert frameworks.load().keras.layers.BatchNormalization in kinds
    assert blocks._fused_batch_normalization() not in kinds


def test_the_fused_normalisation_computes_what_keras_computes(keras: Any) -> None:
    features = np.random.default_rng(0).normal(3, 2, size=(8, 4, 4, 16)).astype(np.float32)
    fused, plain = blocks._fused_batch_normalization()(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)
    np.testing.assert_allclose(fused(features, training=True), plain(features, training=True), atol=1e-4)
    for ours, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        # TensorFlow's kernel takes the unbiased variance: 128 samples a channel here.
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(fused(features, training=False), plain(features, training=False), rtol=0.02, atol=0.02)


def test_held_out_samples_are_never_learned_from() -> None:
    split = datasets.load("mnist", TINY).train
    learned, held_out = datasets.hold_out(split, 0.25)
    assert (len(learned), len(held_out)) == (150, 50)
    rows = [image.tobytes() for image in (*learned.inputs, *held_out.inputs)]
    assert sorted(rows) == sorted(image.tobytes() for image in split.inputs)
    again = datasets.hold_out(split, 0.25)[1]
    np.testing.assert_array_equal(held_out.inputs, again.inputs)


def test_an_epochs_batches_hold_each_sample_once_in_an_order_by_the_seed() -> None:
    inputs, targets = np.arange(10, dtype=np.uint8)[:, None], np.arange(10, dtype=np.int64)
    orders = []
    for seed in (0, 1):
        frameworks.load().keras.utils.set_random_seed(seed)
        batches = network._batches(inputs, targets, 4, shuffled=True)
        epoch = [(x.numpy()[:, 0].tolist(), y.numpy().tolist()) for x, y in batches]
        assert [len(x) for x, _ in epoch] == [4, 4, 2]
        assert all(x == y for x, y in epoch)
        assert int(batches.cardinality()) == 3
        orders.append([sample for x, _ in epoch for sample in x])
    assert [sorted(order) for order in orders] == [list(range(10))] * 2
    assert orders[0] != orders[1]


def test_batches_that_are_not_shuffled_come_in_the_samples_order() -> None:
    inputs, targets = np.arange(10, dtype=np.uint8)[:, None], np.arange(10, dtype=np.int64)
    assert [y.numpy().tolist() for _, y in network._batches(inputs, targets, 5)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    # Its thread would keep an epoch's end waiting.
    assert not network._batches(inputs, targets, 5).options().autotune.enabled
