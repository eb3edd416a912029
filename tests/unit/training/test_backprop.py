import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks, learners, zoo
from pixelserve_training.errors import DivergedError, SourceError, UsageError
from pixelserve_training.exporting import graphs, sources
from pixelserve_training.learners import backprop
from pixelserve_training.learners.backprop import BackpropRecipe, SigmoidLayer
from pixelserve_training.running import overrides
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
LOSSES: list[backprop.Loss] = ["squared_error", "cross_entropy"]


def recipe(name: str, **changes: Any) -> BackpropRecipe:
    found = zoo.find(name)
    assert isinstance(found, BackpropRecipe)
    return replace(found, **changes)


def accuracy(trained: backprop.SigmoidNetwork, name: str) -> float:
    rows = datasets.load(name, None).train
    return float(((trained.predict(rows.inputs)[:, 0] > 0.5) == rows.targets).mean())


def random_layers(*sizes: int) -> list[SigmoidLayer]:
    random = np.random.default_rng(4)
    return [
        SigmoidLayer(random.normal(size=(inputs, units)), random.normal(size=units))
        for inputs, units in pairwise(sizes)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sizes", [(3, 1), (3, 4, 1)])
def test_gradients_are_those_that_tensorflow_finds(loss: backprop.Loss, sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    rows, targets = random.normal(size=(7, 3)), random.integers(0, 2, (7, 1)).astype(np.float64)
    layers = random_layers(*sizes)
    tf = frameworks.load().tf
    variables = [(tf.Variable(layer.weights), tf.Variable(layer.bias)) for layer in layers]
    with tf.GradientTape() as tape:
        found = tf.constant(rows)
        for weights, bias in variables:
            found = tf.sigmoid(found @ weights + bias)
        squared = tf.reduce_sum((found - targets) ** 2) / 2
        entropy = -tf.reduce_sum(targets * tf.math.log(found) + (1 - targets) * tf.math.log(1 - found))
        error = (squared if loss == "squared_error" else entropy) / len(rows)
    expected = tape.gradient(error, variables)
    predicted = backprop.outputs(layers, rows)[-1]
    assert backprop.error(predicted, targets, loss) == pytest.approx(float(error), abs=1e-12)
    for gradient, (weights, bias) in zip(backprop.gradients(layers, rows, targets, loss), expected, strict=True):
        np.testing.assert_allclose(gradient.weights, weights, rtol=0, atol=1e-6)
        np.testing.assert_allclose(gradient.bias, bias, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hidden_layer_learns_the_exclusive_or(seed: int) -> None:
    trained = learners.fit(recipe("numpy-xor", seed=seed), datasets.load("xor", None))
    assert isinstance(trained, backprop.SigmoidNetwork)
    assert accuracy(trained, "xor") == 1.0
    assert trained.history["loss"][-1] < trained.history["loss"][0]
    assert trained.parameters == zoo.find("numpy-xor").parameters


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_layer_cannot_learn_the_exclusive_or(loss: backprop.Loss, seed: int) -> None:
    # No line has (0, 1) and (1, 0) on one side and (0, 0) and (1, 1) on the other.
    one_layer = recipe("numpy-xor", hidden=0, loss=loss, seed=seed)
    assert accuracy(backprop.fit(one_layer, datasets.load("xor", None)), "xor") <= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_layer_learns_the_logical_and_by_the_delta_rule(seed: int) -> None:
    trained = backprop.fit(recipe("numpy-and", seed=seed), datasets.load("and", None))
    assert accuracy(trained, "and") == 1.0
    assert trained.parameters == 3


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    data = datasets.load("xor", None)
    first, second, other = (
        backprop.fit(recipe("numpy-xor", seed=seed, epochs=5), data).network[0].weights for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_loss_that_is_no_number_stops_at_its_step() -> None:
    with pytest.raises(DivergedError, match="step 1 of epoch 1,"):
        backprop.fit(recipe("numpy-xor", learning_rate=float("nan")), datasets.load("xor", None))


def test_a_network_is_read_as_it_was_written(tmp_path: Path) -> None:
    trained = backprop.SigmoidNetwork(tuple(random_layers(2, 3, 1)), {})
    trained.save(tmp_path)
    rows = datasets.load("xor", None).train.inputs
    np.testing.assert_array_equal(backprop.load(tmp_path / backprop.FILE).predict(rows), trained.predict(rows))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_a_damaged_network_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / backprop.FILE).write_bytes(content)
    with pytest.raises(SourceError, match=r"network\.npz: cannot be read as a network's weights"):
        sources.from_run(tmp_path, ("false", "true"))


def test_an_npz_file_of_something_else_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / backprop.FILE)
    with pytest.raises(SourceError, match="holds no layer"):
        backprop.load(tmp_path / backprop.FILE)


def test_the_graph_gives_both_classes_and_agrees_with_numpy() -> None:
    layers = random_layers(2, 3, 1)
    model = OnnxModel(graphs.sigmoid_network(layers), source="network")
    assert [(tensor.name, tensor.shape) for tensor in (*model.inputs, *model.outputs)] == [
        ("features", (-1, 2)),
        ("probabilities", (-1, 2)),
    ]
    rows = np.random.default_rng(5).normal(size=(9, 2)).astype(np.float32)
    second = backprop.outputs(layers, rows)[-1]
    found = model.run({"features": rows})["probabilities"]
    np.testing.assert_allclose(found, np.concatenate([1 - second, second], axis=1), atol=1e-6)


@pytest.mark.slow
def test_steps_and_step_size_can_be_chosen_and_are_kept(pixelserve: Command, tmp_path: Path) -> None:
    ran = pixelserve("train", "numpy-xor", "--epochs", 7, "--lr", 0.5, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 0, ran.err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    own = {"hidden": 4, "loss": "cross_entropy", "learning_rate": 0.5, "epochs": 7}
    assert settings["learner"] == {"held_out": 0.0, "folds": None, **own}
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["loss"]) == 7


def test_an_option_that_a_learner_knows_nothing_of_is_refused() -> None:
    with pytest.raises(UsageError, match="numpy-xor has no batch_size to choose"):
        overrides.apply(zoo.find("numpy-xor"), {"batch_size": 2})
