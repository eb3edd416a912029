"""A network whose weights are averaged: what is evaluated, kept and saved is the average."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks
from pixelserve_training.learners import averaging, network
from pixelserve_training.recipe import KerasRecipe, Optimizer
from pixelserve_training.running import runs
from pixelserve_training.running.checkpoint import Checkpoint, State
from pixelserve_training.zoo import blocks

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def build(classes: int) -> Any:
    """Returns a small network with batch normalisation."""
    keras = frameworks.load().keras
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),
            layers.AveragePooling2D(7),
            blocks.batch_normalization(momentum=0.9),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ]
    )


@pytest.fixture
def averaged(small_recipe: KerasRecipe) -> KerasRecipe:
    optimizer = Optimizer("sgd", 0.5, averaging=0.5)
    return replace(small_recipe, build=build, optimizer=optimizer, epochs=3, batch_size=8, held_out=0.25)


def test_the_last_validation_figures_and_the_best_models_are_those_of_the_saved_network(
    averaged: KerasRecipe, data_dir: Path, tmp_path: Path
) -> None:
    dataset = datasets.load("mnist", data_dir)
    settings = runs.Settings(recipe="small", seed=0, dataset="MNIST", dataset_sha256="")
    checkpoint = Checkpoint(tmp_path / "run", State(settings=settings, request={}))
    trained = network.fit(averaged, dataset, checkpoint)
    train, held_out = datasets.hold_out(dataset.train, averaged.held_out)
    (layer,) = averaging._normalizations(trained.model)
    # Those of the weights that learn still hold a seventh of their initial zero.
    assert float(np.mean(layer.moving_mean)) == pytest.approx(train.inputs.mean() / 255, rel=0.01)
    trained.save(tmp_path)
    history, best = trained.history, checkpoint.state.best
    assert best is not None
    load = frameworks.load().keras.saving.load_model
    for path, epoch in ((tmp_path / "model.keras", 3), (checkpoint.best_model, best.epoch)):
        probabilities = load(path).predict(held_out.inputs, verbose=0)
        right = probabilities.argmax(axis=1) == held_out.targets
        assert history["val_accuracy"][epoch - 1] == pytest.approx(right.mean())
        loss = -np.log(probabilities[np.arange(len(right)), held_out.targets]).mean()
        assert history["val_loss"][epoch - 1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_batch_statistics_are_the_means_over_batches(averaged: KerasRecipe, precision: Any) -> None:
    learner = network._learner(replace(averaged, precision=precision), 10)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 28, 28, 1), dtype=np.uint8)
    batches = network._batches(images, np.zeros(24, np.int64), 8)
    averaging.retake_statistics(learner.model, batches, lambda samples: learner.model(samples // 2, training=True))
    (layer,) = averaging._normalizations(learner.model)
    pooled = (images // 2 / 255).reshape(3, 8, 4, 7, 4, 7).mean(axis=(3, 5)).reshape(3, -1)
    assert float(layer.moving_mean[0]) == pytest.approx(pooled.mean(), rel=0.01)
    # bfloat16 has eight bits, and processors without it round at other places.
    rounding = 0.05 if precision == "float32" else 0.1
    assert float(layer.moving_variance[0]) == pytest.approx(pooled.var(axis=1).mean(), rel=rounding)
    assert layer.momentum == 0.9


def test_a_run_that_continues_learns_from_the_weights_that_learned(
    averaged: KerasRecipe, data_dir: Path, tmp_path: Path
) -> None:
    dataset = datasets.load("mnist", data_dir)
    settings = runs.Settings(recipe="small", seed=0, dataset="MNIST", dataset_sha256="")
    checkpoint = Checkpoint(tmp_path / "run", State(settings=settings, request={}))
    network.fit(replace(averaged, epochs=1), dataset, checkpoint)
    learner = network._learner(averaged, 10)
    learner.compile(48)
    network.keeping.restore(learner.augmented, checkpoint)
    alone = replace(averaged, epochs=1, optimizer=replace(averaged.optimizer, averaging=None))
    last = network.fit(alone, dataset).model.get_weights()
    for kept, ours in zip(learner.model.get_weights(), last, strict=True):
        np.testing.assert_allclose(kept, ours, rtol=1e-5, atol=1e-7)
