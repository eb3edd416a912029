from typing import Any

import pytest

from pixelserve_training import learners, plain_values, zoo
from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import Ensemble, Goal, KerasRecipe, Regularization
from pixelserve_training.running import overrides


def made(**values: Any) -> KerasRecipe:
    """A recipe of plain values; nothing is built from it."""
    plain: dict[str, Any] = {
        "name": "plain",
        "summary": "",
        "dataset": "mnist",
        "parameters": 1,
        "goal": Goal(0.0),
        "build": lambda: None,
        "epochs": 1,
        "batch_size": 1,
        "measured": {0: 0.0},
        "training_s": 0,
    }
    return KerasRecipe(**plain | values)


def test_what_is_not_asked_for_stays_as_the_recipe_has_it() -> None:
    recipe = made(regularization=Regularization(l2=0.5), held_out=0.2)
    assert overrides.apply(recipe, {}) is recipe
    assert overrides.apply(recipe, {"l1": 0.1}).regularization == Regularization(l1=0.1, l2=0.5)


def test_early_stopping_holds_samples_out_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = overrides.apply(made(), {"early_stopping": 3})
    assert (recipe.regularization.patience, recipe.held_out) == (3, 0.1)
    assert "holds out 10% of the training samples" in capsys.readouterr().err


def test_early_stopping_takes_what_the_recipe_holds_out_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert overrides.apply(made(held_out=0.3), {"early_stopping": 3}).held_out == 0.3
    assert capsys.readouterr().err == ""


def test_an_ensemble_has_five_members_unless_told_otherwise_and_is_not_calibrated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = overrides.apply(made(calibrated=True), {"ensemble": "stacking"})
    assert (recipe.ensemble, recipe.calibrated) == (Ensemble("stacking", members=5), False)
    assert "an ensemble is not calibrated, as plain alone is" in capsys.readouterr().err
    assert overrides.apply(made(), {"ensemble": "bagging", "members": 7}).ensemble == Ensemble("bagging", members=7)
    assert overrides.apply(made(calibrated=True), {"l1": 0.1}).calibrated


@pytest.mark.parametrize(
    "values",
    [{"folds": 2}, {"ensemble": "bagging"}, {"balance": "weights"}, {"calibrated": "true"}, {"mirrored": "true"}],
)
def test_what_is_for_classes_is_refused_without_a_probability_for_each(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs a recipe with a probability for each class, but plain minimises mean"):
        overrides.apply(made(loss="mean_squared_error"), values)


@pytest.mark.parametrize("name", ["label_smoothing", "cut_mix"])
def test_what_mixes_labels_needs_the_loss_of_one_hot_labels(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} needs one-hot labels, but plain minimises sparse_categorical_crosse"):
        overrides.apply(made(), {name: "0.5"})
    changed = overrides.apply(made(), {name: "0.5", "loss": "categorical_crossentropy"})
    assert getattr(changed, name) == 0.5


@pytest.mark.parametrize(
    ("remedies", "message"),
    [
        ({"l1": -0.1}, "--l1 -0.1: it should be greater than or equal to 0"),
        ({"l2": float("nan")}, "--l2 nan: it should be a finite number"),
        ({"l2": float("inf")}, "--l2 inf: it should be a finite number"),
        ({"dropout": 1.0}, "--dropout 1.0: it should be less than 1"),
        ({"early_stopping": 0}, "--early-stopping 0: it should be greater than or equal to 1"),
        ({"folds": 1}, "--folds 1: it should be greater than or equal to 2"),
        ({"ensemble": "bagging", "members": 1}, "--members 1: it should be greater than or equal to 2"),
        ({"members": 3}, "--members: plain has no ensemble.kind, which it needs; choose that as well"),
        ({"ensemble": "voting"}, "--ensemble voting: it should be 'bagging', 'boosting' or 'stacking'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_options_name(remedies: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        overrides.apply(made(), remedies)
    assert message in str(raised.value)


def test_a_recipe_that_keras_does_not_train_has_no_remedies() -> None:
    other = zoo.find("numpy-xor")
    assert overrides.apply(other, {}) is other
    with pytest.raises(UsageError, match="--early-stopping: numpy-xor has no early_stopping to choose; it has: epochs"):
        overrides.apply(other, {"early_stopping": 2})


def test_the_settings_of_a_run_name_every_remedy() -> None:
    recipe = made(regularization=Regularization(l1=0.1, l2=0.2, dropout=0.3, patience=4))
    settings = plain_values.settings(recipe)
    assert {name: settings[f"regularization.{name}"] for name in ("l1", "l2", "dropout", "patience")} == {
        "l1": 0.1,
        "l2": 0.2,
        "dropout": 0.3,
        "patience": 4,
    }
    assert {path for remedy in learners.REMEDIES for path in remedy.options.values()} <= settings.keys()
