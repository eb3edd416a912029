"""Recipes' networks for pictures of other sizes and colours."""

from typing import Any

import numpy as np
import pytest

from pixelserve_training import zoo
from pixelserve_training.errors import UsageError
from pixelserve_training.learners import augmenting
from pixelserve_training.learners.backbones import recipe_names
from pixelserve_training.learners.sizes import at_shape
from pixelserve_training.recipe import KerasRecipe

pytestmark = pytest.mark.slow


def recipe_of(name: str) -> KerasRecipe:
    recipe = zoo.find(name)
    assert isinstance(recipe, KerasRecipe)
    return recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_image_recipe_sees_any_size_and_colour(name: str, keras: Any) -> None:
    for shape in ((40, 56, 3), (48, 48, 1)):
        model = at_shape(recipe_of(name).build, shape)(3)
        assert (model.input_shape, model.output_shape) == ((None, *shape), (None, 3))
        assert model.inputs[0].dtype == "uint8"
        assert model.inputs[0].name == "image"


def test_at_its_own_size_a_network_stays_as_it_is(keras: Any) -> None:
    recipe = recipe_of("mnist-cnn")
    assert at_shape(recipe.build, (28, 28, 1))(10).count_params() == recipe.parameters


@pytest.mark.parametrize("name", ["mnist-cnn", "cifar10"])
def test_a_size_that_is_too_small_is_explained(name: str, keras: Any) -> None:
    with pytest.raises(UsageError, match=rf"--size 8x8: too small for {name}"):
        at_shape(recipe_of(name).build, (8, 8, 3))(3)


def test_a_network_that_would_be_too_large_is_refused_before_it_takes_memory(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, built = keras.layers.Dense.build, []
    monkeypatch.setattr(keras.layers.Dense, "build", lambda dense, shape: built.append(shape) or build(dense, shape))
    with pytest.raises(UsageError, match="mnist-cnn-5x5 would have more than 200,000,000 parameters, the most that"):
        at_shape(recipe_of("mnist-cnn-5x5").build, (256, 256, 3))(3)
    assert max(features for _, features in built) < 10_000


@pytest.mark.parametrize("preset", ["light", "photo"])
def test_augmentation_varies_pictures_within_their_levels_while_training_only(preset: str, keras: Any) -> None:
    make = augmenting.PRESETS[preset]
    assert make is not None
    keras.utils.set_random_seed(0)
    varied = keras.Sequential([keras.Input((24, 24, 3)), *make()])
    levels = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3)).astype(np.float32)
    found = np.asarray(varied(levels, training=True))
    assert np.abs(found - levels).max() > 10
    assert found.min() >= 0
    assert found.max() <= 255
    np.testing.assert_array_equal(varied(levels, training=False), levels)


def test_light_augmentation_does_not_mirror(keras: Any) -> None:
    assert augmenting.PRESETS["none"] is None
    make = augmenting.PRESETS["light"]
    assert make is not None
    assert "RandomFlip" not in [type(layer).__name__ for layer in make()]
