"""Ensembles of real networks, from the command to the exported graph."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, zoo
from pixelserve_training.datasets import Array, Dataset, Split
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.recipe import Ensemble, KerasRecipe
from pixelserve_training.running import fit
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

_LONG_ENOUGH = {"epochs": 10, "learning_rate": 0.003}


@pytest.fixture
def striped(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Noise with a bright stripe whose place is the label: quickly learned, so that members are better than guessing.

    It is what every data set's name loads.
    """
    labels = np.arange(96) % 10
    images = np.random.default_rng(0).integers(0, 100, (96, 28, 28, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] = 255
    split = Split(images, labels)
    dataset = Dataset(
        name="stripes",
        task="image",
        labels=tuple("0123456789"),
        train=split.take(np.arange(64)),
        test=split.take(np.arange(64, 96)),
        sha256="0" * 64,
    )
    monkeypatch.setattr(datasets, "load", lambda *_: dataset)
    return dataset


@pytest.mark.parametrize("kind", ["bagging", "boosting", "stacking"])
def test_the_exported_ensemble_is_one_model_that_combines_its_members(
    kind: Any,
    small_recipe: KerasRecipe,
    striped: Dataset,
    tmp_path: Path,
    keras: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Fewer folds than a user gets, for a shorter test.
    recipe = replace(small_recipe, ensemble=Ensemble(kind, members=2, folds=2))
    monkeypatch.setattr(zoo, "find", lambda _: recipe)
    run = tmp_path / "run"
    fit.train("small", data_dir=None, run_dir=run, overrides=_LONG_ENOUGH)
    exported = export_run(run, Target(tmp_path / "models"), data_dir=None)
    assert exported.inputs == ["image uint8 [-1, 28, 28, 1]"]
    assert exported.outputs == ["probabilities float32 [-1, 10]"]
    assert "probabilities" in (tmp_path / "models" / "small" / "config.pbtxt").read_text()
    model = keras.saving.load_model(run / "model.keras")
    images = striped.test.inputs
    said = [model.get_layer(f"member_{number}").predict(images, verbose=0) for number in (1, 2)]
    served = OnnxModel((exported.slot.folder / "model.onnx").read_bytes(), source="model.onnx")
    np.testing.assert_allclose(served.run({"image": images})["probabilities"], combined(kind, model, said), atol=1e-6)
    assert np.abs(said[0] - said[1]).max() > 0.1
    extra = 2 * 10 * 10 + 10 if kind == "stacking" else 0
    assert exported.card.parameters == 2 * small_recipe.parameters + extra


def combined(kind: str, model: Any, said: list[Array]) -> Array:
    """Combines what members say, in NumPy."""
    if kind == "bagging":
        return np.mean(said, axis=0)
    if kind == "boosting":
        shares = [layer.scale for layer in model.layers if type(layer).__name__ == "Rescaling"]
        assert sum(shares) == pytest.approx(1)
        return np.asarray(sum(share * scores for share, scores in zip(shares, said, strict=True)))
    kernel, bias = model.layers[-1].get_weights()
    logits = np.concatenate(said, axis=1) @ kernel + bias
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def test_the_train_command_says_which_member_it_trains_and_keeps_each_ones_history(
    pixelserve: Command, small_in_zoo: KerasRecipe, data_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--ensemble", "bagging", "--members", 3, "--dropout", 0.5)
    ran = pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", run, *options)
    assert ran.exit_code == 0, ran.err
    assert [line for line in ran.err.splitlines() if line.startswith("member")] == [
        "member 1 of 3",
        "member 2 of 3",
        "member 3 of 3",
    ]
    learner = json.loads((run / "settings.json").read_text())["learner"]
    values = ("ensemble.kind", "ensemble.members", "regularization.dropout")
    assert [learner[name] for name in values] == ["bagging", 3, 0.5]
    history = json.loads((run / "history.json").read_text())
    assert {name for name in history if name.endswith("_loss")} == {"member_1_loss", "member_2_loss", "member_3_loss"}


def test_an_ensemble_can_be_cross_validated(
    pixelserve: Command, small_in_zoo: KerasRecipe, data_dir: Path, tmp_path: Path
) -> None:
    options = ("--ensemble", "bagging", "--members", 2, "--folds", 2, "--json")
    ran = pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", tmp_path / "run", *options)
    assert ran.exit_code == 0, ran.err
    assert len(json.loads(ran.out)["cross_validation"]["accuracies"]) == 2
    assert ran.err.count("member 2 of 2") == 3
