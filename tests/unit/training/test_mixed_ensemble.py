"""Ensembles of different recipes: each member learns by its own recipe, and all become one model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import frameworks, zoo
from pixelserve_training.errors import UsageError
from pixelserve_training.learners import members
from pixelserve_training.learners.stacking import learn_to_combine
from pixelserve_training.running import overrides

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
Command = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def stacked(**values: Any) -> Any:
    return overrides.apply(zoo.find("mnist-mlp"), {"ensemble": "stacking", **values})


def test_there_is_a_member_of_each_recipe_with_its_own_values_and_seed() -> None:
    recipe = stacked(**{"with": ("mnist-cnn", "mnist"), "epochs": 3})
    each = members.recipes(recipe, recipe.ensemble)
    assert [one.name for one in each] == ["mnist-mlp", "mnist-cnn", "mnist"]
    assert [one.epochs for one in each] == [3, zoo.find("mnist-cnn").epochs, zoo.find("mnist").epochs]  # type: ignore[attr-defined]
    assert [one.seed for one in each] == members.seeds(recipe, 3)
    # As in an ensemble of one recipe, members learn alone.
    assert [(one.teacher, one.calibrated) for one in each] == [(None, False)] * 3


def test_without_others_all_members_are_the_recipes() -> None:
    recipe = stacked(members=4)
    assert [one.name for one in members.recipes(recipe, recipe.ensemble)] == ["mnist-mlp"] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"with": ("mnist-cnn",), "ensemble": "boosting"}, "boosting has members of one recipe"),
        ({"with": ("mnist-cnn",), "members": 3}, "--members 3: with --with there is one member of each recipe"),
        ({"with": ("mnist-mlp",)}, "--with mnist-mlp: it is a member already"),
        ({"with": ("mnist-cnn", "mnist-cnn")}, "--with mnist-cnn: it is a member already"),
        ({"with": ("fashion-softmax",)}, "it learns fashion-mnist, and mnist-mlp mnist; members of an ensemble share"),
        ({"with": ("fashion-logistic",)}, "--with fashion-logistic: members are networks that Keras trains"),
        ({"with": ("mnist-cn",)}, 'there is no recipe "mnist-cn"; did you mean mnist-cnn'),
    ],
)
def test_recipes_that_cannot_be_members_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        stacked(**values)
    assert message in str(raised.value)


def test_others_need_an_ensemble() -> None:
    with pytest.raises(UsageError, match=r"--with: mnist-mlp has no ensemble\.kind, which it needs"):
        overrides.apply(zoo.find("mnist-mlp"), {"with": ("mnist-cnn",)})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stacking", "bagging"])
def test_different_networks_become_one_that_is_exported(
    pixelserve: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wide = replace(zoo.find("mnist-cnn"), epochs=1, optimizer=zoo.find("mnist-mlp").optimizer)  # type: ignore[attr-defined,call-arg]
    monkeypatch.setitem(zoo._RECIPES, "mnist-cnn", wide)
    run = tmp_path / "run"
    options = ("--epochs", 1, "--set", "ensemble.folds=2", "--data-dir", TINY, "--run-dir", run)
    ran = pixelserve("train", "mnist-mlp", "--ensemble", kind, "--with", "mnist-cnn", *options)
    assert ran.exit_code == 0, ran.err
    settings = json.loads((run / "settings.json").read_text())["learner"]
    assert settings["ensemble.others"] == ["mnist-cnn"]
    model = frameworks.load().keras.saving.load_model(run / "model.keras", compile=False)
    inner = [layer.name for layer in model.layers if layer.name.startswith("member")]
    assert inner[:2] == ["member_1", "member_2"]
    parameters = [model.get_layer(name).count_params() for name in inner[:2]]
    assert parameters == [zoo.find(name).parameters for name in ("mnist-mlp", "mnist-cnn")]
    exported = pixelserve("export", run, "--to", tmp_path / "models", "--data-dir", TINY, "--json")
    assert exported.exit_code == 0, exported.err
    assert json.loads(exported.out)["max_abs_error"] < 1e-4


def test_members_with_different_probabilities_are_told_apart_by_the_class() -> None:
    """Stacking learns from whom to take which class: one knows class 0 only, the other class 1 only."""
    labels = np.arange(300) % 3
    first = np.where((labels == 0)[:, None], [0.9, 0.05, 0.05], [0.1, 0.45, 0.45])
    second = np.where((labels == 1)[:, None], [0.05, 0.9, 0.05], [0.45, 0.1, 0.45])
    kernel, bias = learn_to_combine([first, second], labels)
    assert (np.concatenate([first, second], axis=1) @ kernel + bias).argmax(axis=1).tolist() == labels.tolist()
