"""Every plain value of a recipe can be changed by its path, and is checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve_training import plain_values, zoo
from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import overrides


def changed(recipe: str, **values: Any) -> Any:
    return overrides.apply(zoo.find(recipe), {path.replace("__", "."): value for path, value in values.items()})


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_with_its_own_values_is_the_same_recipe(recipe: Any) -> None:
    values = {path: plain.value for path, plain in plain_values.listed(recipe).items() if plain.value is not None}
    assert overrides.apply(recipe, values) == recipe


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_the_zoos_values_are_of_their_types(recipe: Any) -> None:
    plain_values.check(recipe)


def test_settings_have_what_can_be_chosen_and_no_claims() -> None:
    settings = plain_values.settings(zoo.find("numpy-xor"))
    assert settings == {
        "held_out": 0.0,
        "folds": None,
        "hidden": 4,
        "loss": "cross_entropy",
        "learning_rate": 1.0,
        "epochs": 1000,
    }
    flagship = plain_values.settings(zoo.find("cifar10"))
    assert (flagship["optimizer.momentum"], flagship["optimizer.schedule"]) == (0.85, "cosine")
    assert flagship["teacher.weight"] is None
    assert not {path for path in flagship if path.startswith(("goal", "name", "measured", "seed"))}


def test_texts_become_the_types_of_the_recipe() -> None:
    recipe = changed(
        "mnist-cnn", epochs="3", learning_rate="1e-2", calibrated="true", also_saved_as=".h5", folds="none"
    )
    assert (recipe.epochs, recipe.optimizer.learning_rate, recipe.calibrated) == (3, 0.01, True)
    assert (recipe.also_saved_as, recipe.folds) == ((".h5",), None)


def test_short_names_and_paths_are_the_same_values() -> None:
    assert changed("mnist-cnn", l1=0.1, learning_rate=0.5) == changed(
        "mnist-cnn", regularization__l1="0.1", optimizer__learning_rate="0.5"
    )
    assert changed("numpy-xor", learning_rate=0.5).learning_rate == 0.5


def test_a_part_that_the_recipe_lacks_can_be_chosen() -> None:
    recipe: KerasRecipe = changed("mnist-cnn", ensemble__kind="stacking", ensemble__folds="3")
    assert recipe.ensemble is not None
    assert (recipe.ensemble.kind, recipe.ensemble.members, recipe.ensemble.folds) == ("stacking", 5, 3)


@pytest.mark.slow
def test_the_optimizers_other_arguments_are_keras_own() -> None:
    assert changed("mnist-cnn", optimizer__beta_1="0.8").optimizer.options["beta_1"] == 0.8
    recipe = changed("cifar10", optimizer__name="adam")
    assert (recipe.optimizer.name, sorted(recipe.optimizer.options)) == ("adam", ["weight_decay"])
    # Keras refuses an integer.
    assert repr(changed("cifar10", optimizer__momentum="0").optimizer.options["momentum"]) == "0.0"
    with pytest.raises(UsageError, match=r"--set optimizer\.nesterov maybe: it should be a valid boolean"):
        changed("cifar10", optimizer__nesterov="maybe")
    with pytest.raises(
        UsageError, match=r"mnist-cnn has no optimizer\.beta_3 to choose; did you mean .*optimizer\.bet"
    ):
        changed("mnist-cnn", optimizer__beta_3="0.8")
    with pytest.raises(UsageError, match=r"--set optimizer\.name adem: Keras has no such optimizer"):
        changed("mnist-cnn", optimizer__name="adem")
    # Both the recipe's own and Keras's, and named once.
    with pytest.raises(UsageError) as raised:
        changed("cifar10", optimizer__momenta="0.8")
    assert str(raised.value).count("optimizer.momentum") == 1


@pytest.mark.slow
def test_what_keras_refuses_together_is_refused_before_training(pixelserve: Callable[..., Any], tmp_path: Path) -> None:
    both = ("--set", "optimizer.clipnorm=1", "--set", "optimizer.clipvalue=1")
    ran = pixelserve("train", "iris", *both, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 2
    assert "iris: Keras does not take the optimizer adam(clipnorm=1, clipvalue=1): Only one of" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": "x"}, "--epochs x: it should be a valid integer"),
        ({"batch_size": 0}, "--batch-size 0: it should be greater than or equal to 1"),
        ({"seed": 2**32}, "it should be less than 4294967296"),
        ({"learning_rate": 0}, "--lr 0: it should be greater than 0"),
        ({"held_out": -1}, "--hold-out -1: "),
        ({"label_smoothing": "-0.1"}, "--set label_smoothing -0.1: it should be greater than or equal to 0"),
        ({"optimizer.schedule": "linear"}, "--set optimizer.schedule linear: it should be 'constant'"),
        ({"goal.bound": "0.5"}, "mnist-mlp has no goal.bound to choose"),
        ({"name": "x"}, "mnist-mlp has no name to choose"),
        ({"build": "x"}, "mnist-mlp has no build to choose"),
        ({"epoch": "3"}, "--set epoch: mnist-mlp has no epoch to choose; did you mean epochs?"),
        ({"teacher.weight": "1"}, "--set teacher.weight: mnist-mlp has no teacher.build, which it needs"),
        ({"l1": 0.1, "regularization.l1": "0.2"}, "--set regularization.l1 and --l1 are the same value"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_option(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        overrides.apply(zoo.find("mnist-mlp"), values)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epochs"], "--set epochs: expected PATH=VALUE"),
        (["=3"], "--set =3: expected PATH=VALUE"),
        (["a=1", "a=2"], "--set a is given twice"),
        (["epochs=2"], "--set epochs is given twice"),
    ],
)
def test_a_set_option_of_another_form_or_given_twice_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        overrides.merged({"epochs": 1, "seed": None}, texts)
    assert message in str(raised.value)


def test_options_that_are_not_given_are_no_overrides() -> None:
    assert overrides.merged({"epochs": None, "seed": 0}, ["optimizer.momentum=0.9"]) == {
        "seed": 0,
        "optimizer.momentum": "0.9",
    }
