from dataclasses import replace
from typing import Any

import pytest

from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import Ensemble, Goal, KerasRecipe, Recipe, Regularization
from pixelserve_training.running.remedies import Remedies, settings_of


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
    assert Remedies().apply(recipe) is recipe
    assert Remedies(l1=0.1).apply(recipe).regularization == Regularization(l1=0.1, l2=0.5)


def test_early_stopping_holds_samples_out_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Remedies(early_stopping=3).apply(made())
    assert (recipe.regularization.patience, recipe.held_out) == (3, 0.1)
    assert "holds out 10% of the training samples" in capsys.readouterr().err


def test_early_stopping_takes_what_the_recipe_holds_out_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert Remedies(early_stopping=3).apply(made(held_out=0.3)).held_out == 0.3
    assert capsys.readouterr().err == ""


def test_an_ensemble_has_five_members_unless_told_otherwise_and_is_not_calibrated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = Remedies(ensemble="stacking").apply(made(calibrated=True))
    assert (recipe.ensemble, recipe.calibrated) == (Ensemble("stacking", members=5), False)
    assert "an ensemble is not calibrated, as plain alone is" in capsys.readouterr().err
    assert Remedies(ensemble="bagging", members=7).apply(made()).ensemble == Ensemble("bagging", members=7)
    assert Remedies(l1=0.1).apply(made(calibrated=True)).calibrated


@pytest.mark.parametrize("remedies", [Remedies(folds=2), Remedies(ensemble="bagging")])
def test_a_recipe_that_does_not_classify_has_neither_folds_nor_ensembles(remedies: Remedies) -> None:
    with pytest.raises(UsageError, match="needs a recipe with a probability for each class, but plain minimises mean"):
        remedies.apply(made(loss="mean_squared_error"))


@pytest.mark.parametrize(
    ("remedies", "message"),
    [
        (Remedies(l1=-0.1), "--l1 -0.1: expected a number of 0 or more"),
        (Remedies(l2=float("nan")), "--l2 nan: expected a number of 0 or more"),
        (Remedies(l2=float("inf")), "--l2 inf: expected a number of 0 or more"),
        (Remedies(dropout=1.0), "--dropout 1.0: expected a number of 0 or more, below 1"),
        (Remedies(early_stopping=0), "--early-stopping 0: expected 1 to"),
        (Remedies(folds=1), "--folds 1: expected 2 to 100"),
        (Remedies(ensemble="bagging", members=1), "--members 1: expected 2 to 100"),
        (Remedies(members=3), "--members 3 needs an ensemble; give --ensemble bagging|boosting|stacking as well"),
        (Remedies(ensemble="voting"), '--ensemble "voting": expected bagging, boosting or stacking'),  # type: ignore[arg-type]
    ],
)
def test_a_value_out_of_range_is_refused_by_its_options_name(remedies: Remedies, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        remedies.apply(made())
    assert message in str(raised.value)


def test_a_recipe_that_keras_does_not_train_has_no_remedies() -> None:
    other = Recipe(
        name="other", summary="", dataset="mnist", parameters=1, goal=Goal(0.0), measured={0: 0.0}, training_s=0
    )
    assert Remedies().apply(other) is other
    with pytest.raises(UsageError, match="--early-stopping is for networks trained by Keras, which other is not"):
        Remedies(early_stopping=2).apply(other)


def test_the_settings_of_a_run_name_every_remedy() -> None:
    recipe = made(regularization=Regularization(l1=0.1, l2=0.2, dropout=0.3, patience=4))
    settings = settings_of(recipe)
    assert {name: settings[name] for name in ("l1", "l2", "dropout", "early_stopping")} == {
        "l1": 0.1,
        "l2": 0.2,
        "dropout": 0.3,
        "early_stopping": 4,
    }
    assert settings_of(replace(recipe, regularization=Regularization()))["early_stopping"] is None
