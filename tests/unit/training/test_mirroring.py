"""A network that averages an image and its mirror image."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets
from pixelserve_training.errors import UsageError
from pixelserve_training.exporting.converters.base import content_of
from pixelserve_training.exporting.converters.tf2onnx import to_onnx
from pixelserve_training.exporting.signature import keras_signature
from pixelserve_training.learners import network
from pixelserve_training.learners.mirroring import mirrored
from pixelserve_training.measuring import calibrate
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import runs
from pixelserve_training.running.checkpoint import Checkpoint, State
from pixelserve_training.runtime import OnnxModel
from pixelserve_training.zoo import blocks

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

DIGITS = np.random.default_rng(1).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def single(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = blocks.whitened_network(10, name="two-way", shape=(32, 32, 3), widths=(8, 16))
    # As it is drawn, all images look the same to it.
    model.layers[-1].set_weights([3000 * weights for weights in model.layers[-1].get_weights()])
    return model


def test_it_gives_the_softmax_of_the_mean_logits(single: Any) -> None:
    both = [single.predict(images, verbose=0) for images in (IMAGES, IMAGES[:, :, ::-1])]
    logits = np.mean(np.log(both), axis=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(both[0] - both[1]).max() > 1e-3
    np.testing.assert_allclose(mirrored(single).predict(IMAGES, verbose=0), expected, atol=1e-6)


def test_it_has_the_weights_of_the_single_one_in_the_same_order(single: Any) -> None:
    both_ways = mirrored(single)
    assert both_ways.count_params() == single.count_params()
    for ours, theirs in zip(both_ways.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_saved_and_exported_whole(single: Any, keras: Any, tmp_path: Path) -> None:
    both_ways = mirrored(single)
    both_ways.save(tmp_path / "model.keras")
    expected = both_ways.predict(IMAGES, verbose=0)
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), expected)
    content = content_of(to_onnx(keras_signature(loaded, source="model"), source="model"))
    # Each weight is in the file once, though it is used twice.
    assert len(content) < 4 * single.count_params() + 20_000
    outputs = OnnxModel(content, source="model").run({"image": IMAGES})
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)


def test_what_ends_otherwise_is_refused(keras: Any) -> None:
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Flatten(name="flat")(image), name="odd")
    with pytest.raises(UsageError, match="odd ends in flat; a mirrored model requires a Dense layer there"):
        mirrored(model)


def test_a_recipe_that_says_so_trains_a_mirrored_network(
    small_recipe: KerasRecipe, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "LEAST_SAMPLES", 16)
    dataset = datasets.load("mnist", data_dir)
    recipe = replace(small_recipe, precision="mixed_bfloat16", mirrored=True, held_out=0.25, calibrated=True)
    trained = network.fit(recipe, dataset)
    pixels = dataset.test.inputs
    np.testing.assert_allclose(trained.predict(pixels), trained.predict(pixels[:, :, ::-1]), atol=1e-6)
    assert trained.temperature is not None
    # The report's table has the layers of the network inside.
    assert any(layer.name.startswith("features/dense") for layer in trained.layers)
    assert sum(layer.parameters for layer in trained.layers) == trained.parameters == 6_370


def test_what_is_kept_of_an_unfinished_run_is_mirrored_and_can_be_gone_on_with(
    small_recipe: KerasRecipe, data_dir: Path, tmp_path: Path, keras: Any
) -> None:
    recipe = replace(small_recipe, precision="mixed_bfloat16", mirrored=True)
    settings = runs.Settings(recipe="small", seed=0, dataset="MNIST", dataset_sha256="")
    checkpoint = Checkpoint(tmp_path / "run", State(settings=settings, request={}))
    trained = network.fit(recipe, datasets.load("mnist", data_dir), checkpoint)
    kept = keras.saving.load_model(checkpoint.best_model, compile=False)
    np.testing.assert_array_equal(kept.predict(DIGITS, verbose=0), trained.predict(DIGITS))
    # After its last epoch nothing is left to learn.
    resumed = network.fit(recipe, datasets.load("mnist", data_dir), checkpoint)
    np.testing.assert_array_equal(resumed.predict(DIGITS), trained.predict(DIGITS))
