import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, zoo
from pixelserve_training.datasets import Split
from pixelserve_training.errors import UsageError
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.learners import network, regularize
from pixelserve_training.recipe import KerasRecipe, Optimizer, Regularization

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def test_l1_and_l2_are_the_kernels_sums_in_the_loss(small_recipe: KerasRecipe) -> None:
    model = regularize.build(replace(small_recipe, regularization=Regularization(l1=0.01, l2=0.1)), 10)
    kernels = [weights for weights in model.get_weights() if weights.ndim > 1]
    assert len(kernels) == 2
    by_hand = sum(0.01 * np.abs(kernel).sum() + 0.1 * np.square(kernel).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(by_hand, rel=1e-5)


def test_dropout_lies_in_front_of_the_last_dense_layer_alone(small_recipe: KerasRecipe) -> None:
    model = regularize.build(replace(small_recipe, regularization=Regularization(dropout=0.25)), 10)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Rescaling", "Flatten", "Dense", "Dropout", "Dense"]
    assert model.layers[-2].rate == 0.25


@pytest.mark.parametrize("name", ["mnist-cnn"])
def test_a_regularised_network_of_the_zoo_begins_as_the_plain_one(keras: Any, name: str) -> None:
    recipe = zoo.find(name)
    assert isinstance(recipe, KerasRecipe)
    keras.utils.set_random_seed(3)
    plain = recipe.build(10)
    keras.utils.set_random_seed(3)
    regularized = regularize.build(replace(recipe, regularization=Regularization(l2=0.1, dropout=0.5)), 10)
    for ours, theirs in zip(regularized.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = np.random.default_rng(0).integers(0, 256, (2, *plain.input_shape[1:]), dtype=np.uint8)
    np.testing.assert_allclose(regularized(images), plain(images), atol=1e-6)


def test_without_regularisation_the_recipes_own_model_is_learned(small_recipe: KerasRecipe) -> None:
    built = object()
    assert regularize.build(replace(small_recipe, build=lambda _: built), 10) is built


def test_a_network_without_a_fitting_layer_is_refused(keras: Any, small_recipe: KerasRecipe) -> None:
    def build(classes: int) -> Any:
        return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Softmax()])

    for regularization, message in (
        (Regularization(l1=0.1), "small has no layer with a kernel"),
        (Regularization(dropout=0.1), "before the last Dense layer, but small has none"),
    ):
        with pytest.raises(UsageError, match=message):
            regularize.build(replace(small_recipe, build=build, regularization=regularization), 10)


@pytest.mark.parametrize("averaging", [None, 0.5])
def test_early_stopping_keeps_the_epoch_with_the_lowest_held_out_loss(
    keras: Any, small_recipe: KerasRecipe, averaging: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    # Labels without sense: what is learned of them only makes the held-out loss worse.
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8), random.integers(0, 10, 64)
    train, held_out = Split(images[:32], labels[:32]), Split(images[32:], labels[32:])
    recipe = replace(
        small_recipe,
        epochs=40,
        # Several steps an epoch: after the first step of all, the average is that step's weights.
        batch_size=8,
        optimizer=Optimizer("adam", 0.01, averaging=averaging),
        regularization=Regularization(patience=2),
    )
    trained = network.fit_splits(recipe, train, held_out, classes=10)
    losses = trained.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    chosen = trained.predict(held_out.inputs)[np.arange(32), held_out.targets]
    assert -np.log(chosen).mean() == pytest.approx(losses[best], rel=1e-5)
    assert f"stopped after epoch {best + 3}; kept epoch {best + 1}" in capsys.readouterr().err


def test_a_run_against_overfitting_says_so_in_its_settings_and_exports_as_any_other(
    pixelserve: Command, small_in_zoo: KerasRecipe, data_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--l1", 1e-5, "--l2", 1e-4, "--dropout", 0.5, "--early-stopping", 1)
    ran = pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", run, *options)
    assert ran.exit_code == 0, ran.err
    learner = json.loads((run / "settings.json").read_text())["learner"]
    assert [learner[f"regularization.{name}"] for name in ("l1", "l2", "dropout", "patience")] == [1e-5, 1e-4, 0.5, 1]
    assert learner["held_out"] == 0.1
    assert json.loads((run / "metrics.json").read_text())["validation"]["samples"] == 6
    exported = export_run(run, Target(tmp_path / "models"), data_dir=data_dir)
    assert exported.card.parameters == small_in_zoo.parameters
    assert exported.outputs == ["probabilities float32 [-1, 10]"]


def test_the_same_seed_gives_the_same_weights_with_dropout_too(small_recipe: KerasRecipe, data_dir: Path) -> None:
    recipe = replace(small_recipe, seed=5, regularization=Regularization(dropout=0.5, l1=1e-4))
    dataset = datasets.load("mnist", data_dir)
    weights = [network.fit(recipe, dataset).model.get_weights() for _ in range(2)]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
