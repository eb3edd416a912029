"""Recipes on tables from their training to their card."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve_training import datasets, zoo
from pixelserve_training.errors import MissingLibraryError, UsageError
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.exporting.sources import from_run
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import fit
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def trained(name: str, folder: Path, *, epochs: int) -> Path:
    fit.train(name, data_dir=None, run_dir=folder / name, overrides={"epochs": epochs})
    return folder / name


@pytest.fixture(scope="module")
def blood_fat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of blood-fat."""
    recipe = zoo.find("blood-fat")
    assert isinstance(recipe, KerasRecipe)
    return trained("blood-fat", tmp_path_factory.mktemp("runs"), epochs=recipe.epochs)


def test_a_regression_comes_within_a_hundredth_of_least_squares(blood_fat: Path) -> None:
    figures = json.loads((blood_fat / "metrics.json").read_text())["training"]["metrics"]
    best = figures["least_squares_mean_squared_error"]
    # No plane beats it but by rounding.
    assert (1 - 1e-6) * best <= figures["mean_squared_error"] <= 1.01 * best
    # The goal is that bound as a number.
    goal = zoo.find("blood-fat").goal
    assert goal.bound == pytest.approx(1.01 * best, rel=1e-5)
    assert goal.reached(figures["mean_squared_error"])


def test_a_regression_takes_years_and_kilograms_and_has_no_labels(blood_fat: Path, tmp_path: Path) -> None:
    exported = export_run(blood_fat, Target(tmp_path), data_dir=None)
    assert exported.card.task == "regression"
    assert exported.accuracy is None
    assert exported.card.evaluation is not None
    assert exported.card.evaluation.split == "training"
    assert exported.card.evaluation.metrics.keys() == {"mean_squared_error", "least_squares_mean_squared_error"}
    assert not (tmp_path / "blood-fat" / "labels.txt").exists()
    # The largest blood fat is 451.
    assert exported.card.tolerance("CPUExecutionProvider") == pytest.approx(451e-5)
    model = OnnxModel((exported.slot.folder / "model.onnx").read_bytes(), source="blood-fat")
    (value,) = model.run({"features": np.array([[46, 84]], np.float32)})["output"].ravel()
    # By the closed form 5.2166 · 46 + 0.41736 · 84 + 77.983.
    assert value == pytest.approx(353.0, abs=0.1)


def test_the_commands_tell_a_regressions_error_in_words(pixelserve: Command, blood_fat: Path, tmp_path: Path) -> None:
    ran = pixelserve("export", blood_fat, "--to", tmp_path)
    assert ran.exit_code == 0, ran.err
    assert "mean squared error 1712.25, least squares mean squared error 1712.25 on 25 samples (training)" in ran.out
    ran = pixelserve("evaluate", "blood-fat", "--model-repository", tmp_path)
    assert ran.exit_code == 0, ran.err
    assert "mean_squared_error" in ran.out


def test_a_single_score_is_exported_as_a_probability_of_each_class(tmp_path: Path) -> None:
    run = trained("and", tmp_path / "runs", epochs=1)
    exported = export_run(run, Target(tmp_path / "models"), data_dir=None)
    assert exported.outputs == ["probabilities float32 [-1, 2]"]
    assert (tmp_path / "models" / "and" / "labels.txt").read_text().split() == ["false", "true"]
    assert exported.card.task == "tabular"
    assert exported.max_abs_error is not None
    rows = datasets.load("and", None).train.inputs
    source = from_run(run, ("false", "true"))
    found = OnnxModel(source.onnx, source="and").run({"features": rows})["probabilities"]
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    # true is the second class: both inputs true make it more probable than both false do.
    assert found[3, 1] > found[0, 1]


def test_an_exported_gate_measures_again_as_its_card_says(pixelserve: Command, tmp_path: Path) -> None:
    run = trained("numpy-xor", tmp_path / "runs", epochs=1000)
    export_run(run, Target(tmp_path / "models"), data_dir=None)
    ran = pixelserve("evaluate", "numpy-xor", "--model-repository", tmp_path / "models", "--json")
    assert ran.exit_code == 0, ran.err
    result = json.loads(ran.out)
    assert (result["split"], result["metrics"]) == ("training", {"accuracy": 1.0})
    assert (result["incomparable"], result["differences"]) == ("", [])
    card = read_card(tmp_path / "models" / "numpy-xor" / "1" / "card.json")
    assert card.reference is not None
    assert card.reference.framework == "numpy"


def test_repeated_rows_are_an_epochs_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = zoo.find("and")
    assert isinstance(recipe, KerasRecipe)
    said: list[str] = []
    monkeypatch.setattr("pixelserve_training.learners.network.say", said.append)
    monkeypatch.setattr(zoo, "find", lambda _: replace(recipe, repeats=3, epochs=1))
    fit.train("and", data_dir=None, run_dir=tmp_path / "run", overrides={})
    assert said[0].startswith("training and on 12 samples")


def test_iris_says_which_library_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingLibraryError, match="sklearn"):
        datasets.load("iris", None)


def test_early_stopping_is_refused_where_nothing_can_be_held_out(pixelserve: Command, tmp_path: Path) -> None:
    ran = pixelserve("train", "xor", "--early-stopping", 3, "--run-dir", tmp_path / "run")
    assert ran.exit_code == UsageError.exit_code
    assert "--early-stopping needs held-out samples, but 10% of 4 training samples is none" in ran.err
    assert not list(tmp_path.iterdir())
