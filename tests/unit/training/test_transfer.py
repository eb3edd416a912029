"""Networks that start from a trained one: phases, weights, preprocessing, and errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve_training.datasets import Dataset, Split
from pixelserve_training.errors import UsageError
from pixelserve_training.learners import backbones, onnx_weights, pretrained, transfer
from pixelserve_training.recipe import KerasRecipe, Transfer
from pixelserve_training.running import own

Command = Callable[..., Any]
SHAPE = (24, 24, 1)
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder of a network for 8 × 8 pixels whose normalisation has statistics."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    maps = layers.Conv2D(4, 3, use_bias=False)(layers.Rescaling(1 / 255)(image))
    maps = layers.Activation("relu")(layers.BatchNormalization(momentum=0.5)(maps))
    scores = layers.Dense(5, activation="softmax", name="probabilities")(layers.GlobalMaxPooling2D()(maps))
    model = keras.Model(image, scores, name="small")
    model.layers[3].moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    return folder


@pytest.fixture(autouse=True)
def zoo_of_one(small_recipe: KerasRecipe, keras: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(classes: int) -> Any:
        whole = keras.saving.load_model(trained / "model.keras")
        return keras.models.clone_model(whole)

    recipe = replace(small_recipe, build=build)
    monkeypatch.setattr(backbones.zoo, "recipes", lambda: [recipe])


def pictures(count: int = 24) -> Dataset:
    labels = (np.arange(count) % 2).astype(np.uint8)
    levels = RANDOM.integers(0, 60, (count, *SHAPE), dtype=np.uint8)
    levels[labels == 1] += 120
    split = Split(levels, labels)
    return Dataset("lights", "image", ("dark", "light"), split, split, "")


def recipe_of(weights: object, **options: Any) -> KerasRecipe:
    build = backbones.network("small", str(weights), SHAPE)
    started = Transfer(backbone="small", weights="a test's", build=build, epochs=2, learning_rate=0.001)
    return replace(own.transfer_recipe(), transfer=started, augmentation=None, **{"epochs": 3, **options})


def test_the_last_layer_learns_first_and_then_all_but_the_statistics(trained: Path, keras: Any) -> None:
    before = keras.saving.load_model(trained / "model.keras").layers
    found = transfer.fit(recipe_of(trained), pictures())
    assert found.history[transfer.PHASE] == [1, 1, 1, 2, 2]
    assert len(found.history["loss"]) == 5
    backbone = found.model.get_layer("backbone")
    assert np.abs(backbone.layers[2].get_weights()[0] - before[2].get_weights()[0]).max() > 0
    for after, was in zip(backbone.layers[3].get_weights(), before[3].get_weights(), strict=True):
        np.testing.assert_array_equal(after, was)


def test_the_second_phase_begins_where_the_first_ended(trained: Path) -> None:
    frozen = transfer.fit(
        replace(recipe := recipe_of(trained), transfer=replace(recipe.transfer, epochs=0)), pictures()
    )
    still = replace(recipe.transfer, epochs=1, learning_rate=1e-12)
    found = transfer.fit(replace(recipe, transfer=still), pictures())
    inputs = pictures().test.inputs
    np.testing.assert_allclose(found.predict(inputs), frozen.predict(inputs), atol=1e-4)


def test_while_it_is_frozen_the_backbone_does_not_change(trained: Path, keras: Any) -> None:
    recipe = recipe_of(trained)
    found = transfer.fit(replace(recipe, transfer=replace(recipe.transfer, epochs=0)), pictures())
    before = keras.saving.load_model(trained / "model.keras").get_weights()[:-2]
    for after, was in zip(found.model.get_layer("backbone").get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, was)


def test_pictures_are_averaged_to_the_size_that_the_backbone_learned(trained: Path, keras: Any) -> None:
    small = RANDOM.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    large = np.kron(small, np.ones((1, 3, 3, 1), np.uint8))
    whole = keras.saving.load_model(trained / "model.keras")
    expected = keras.Model(whole.inputs[0], whole.layers[-1].input).predict(small, verbose=0)
    made = backbones.network("small", str(trained), SHAPE)(2, False)
    found = keras.Model(made.inputs[0], made.layers[-2].output).predict(large, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_may_be_in_a_run_a_model_a_weights_file_or_a_run_with_the_backbone(
    trained: Path, keras: Any, tmp_path: Path
) -> None:
    made = backbones.network("small", str(trained), SHAPE)(2, False)
    made.save(tmp_path / "model.keras")
    keras.Model(made.get_layer("backbone").inputs[0], made.get_layer("backbone").outputs[0]).save_weights(
        tmp_path / "a.weights.h5"
    )
    expected = made.get_layer("backbone").get_weights()
    for source in (trained / "model.keras", tmp_path, tmp_path / "a.weights.h5"):
        found = backbones.network("small", str(source), SHAPE)(2, False).get_layer("backbone").get_weights()
        for after, was in zip(found, expected, strict=True):
            np.testing.assert_array_equal(after, was)


@pytest.mark.parametrize(
    ("backbone", "weights", "shape", "said"),
    [
        ("smal", "random", SHAPE, r'--backbone "smal": expected one of small, mobilenet_v2'),
        ("small", None, SHAPE, r"--backbone small needs --weights: a run's folder"),
        ("small", "nowhere", SHAPE, r"--weights nowhere: no such file or folder; give a run's folder"),
        ("small", "random", (24, 24, 3), r"--backbone small sees grey pictures; give --grey"),
    ],
)
def test_a_backbone_that_does_not_fit_is_explained(
    backbone: str, weights: str | None, shape: tuple[int, int, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        backbones.network(backbone, weights, shape)


def test_damaged_weights_are_explained(tmp_path: Path) -> None:
    for name, said in (("model.keras", "cannot be read as a model"), ("a.weights.h5", "not the weights of small")):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(UsageError, match=said):
            backbones.network("small", str(tmp_path / name), SHAPE)(2, False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: holds neither model.keras nor model.onnx"):
        backbones.network("small", str(tmp_path / "empty"), SHAPE)(2, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("transfer",), "transfer needs your own pictures and a trained network: give --images and --backbone"),
        (("mnist-cnn", "--size", "96"), "--size is for your own pictures; give them with --images"),
        (("mnist-cnn", "--images", ".", "--backbone", "small"), "--backbone is for the recipe transfer"),
        (("mnist-cnn", "--images", ".", "--size", "9x"), "--size 9x: expected pixels a side, such as 96"),
        (("mnist-cnn", "--images", ".", "--size", "4"), "--size 4: expected pixels a side"),
        # Although there are no pictures either.
        (("transfer", "--images", "nowhere", "--backbone", "cifar11"), '--backbone "cifar11": expected one of '),
        (("transfer", "--images", "nowhere", "--backbone", "small"), "--backbone small needs --weights: a run's"),
        (
            ("transfer", "--images", "nowhere", "--backbone", "small", "--weights", "gone"),
            "--weights gone: no such file or folder",
        ),
        (("mnist-cnn", "--images", ".", "--augment", "lots"), '--augment "lots": expected one of none, light, photo'),
        (("mnist-cnn", "--balance", "fair"), "--balance fair: it should be 'weights' or 'sampling'"),
        (("mnist-cnn", "--images", ".", "--picture", "fit=tight"), '--picture "fit=tight": fit=tight: expected one of'),
        (("fashion-logistic", "--balance", "weights"), "--balance: fashion-logistic has no balance to choose"),
        (("blood-fat", "--balance", "weights"), "--balance needs a recipe with a probability for each class"),
    ],
)
def test_options_that_do_not_fit_are_explained(pixelserve: Command, arguments: tuple[str, ...], said: str) -> None:
    ran = pixelserve("train", *arguments)
    assert ran.exit_code == 2
    assert said in ran.err


def test_the_preprocessing_of_each_application_is_keras_own(keras: Any) -> None:
    modules = {"resnet50": "resnet50", "densenet121": "densenet", "mobilenet_v2": "mobilenet_v2"}
    levels = RANDOM.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    for name, module in modules.items():
        image = keras.Input((32, 32, 3))
        scaled = keras.Model(image, pretrained._scaled(image, pretrained._NETWORKS[name][1])).predict(levels, verbose=0)
        expected = getattr(keras.applications, module).preprocess_input(levels.copy())
        np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_an_application_starts_from_a_file_of_its_weights(keras: Any, tmp_path: Path) -> None:
    shape = (32, 32, 3)
    network = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=shape)
    network.save_weights(tmp_path / "own.weights.h5")
    made = backbones.network("mobilenet_v3_small", str(tmp_path / "own.weights.h5"), (32, 32, 1))(2, False)
    found = made.get_layer("backbone").get_weights()
    for after, was in zip(found, network.get_weights(), strict=True):
        np.testing.assert_array_equal(after, was)
    assert [layer.name for layer in made.layers if layer.trainable_weights] == ["probabilities"]
    with pytest.raises(UsageError, match=r"not the weights of mobilenet_v2 without its classes"):
        backbones.network("mobilenet_v2", str(tmp_path / "own.weights.h5"), shape)(2, False)


@pytest.mark.parametrize("name", ["mnist-cnn", "mnist", "fashion-mnist", "cifar10"])
def test_an_exported_versions_weights_compute_what_it_does(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    recipe = onnx_weights_recipe(name)
    model = onnx_weights.read(recipe, root / "models" / name)
    assert model.count_params() == recipe.parameters
    with pytest.raises(UsageError, match=r"its weights are not those of the network of cifar10-cnn"):
        onnx_weights.read(onnx_weights_recipe("cifar10-cnn"), root / "models" / name)


def onnx_weights_recipe(name: str) -> KerasRecipe:
    from pixelserve_training import zoo

    recipe = zoo.find(name)
    assert isinstance(recipe, KerasRecipe)
    return recipe


def draw(path: Path, light: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(light, light + 60, (24, 24), dtype=np.uint8)
    Image.fromarray(levels).save(path)


def test_a_run_with_a_backbone_becomes_a_version_that_declares_its_pictures(
    pixelserve: Command, trained: Path, tmp_path: Path
) -> None:
    for number in range(8):
        draw(tmp_path / "lights" / "dark" / f"{number}.png", 0, number)
        draw(tmp_path / "lights" / "light" / f"{number}.png", 150, 100 + number)
    options = ("--backbone", "small", "--weights", trained, "--size", "24x16", "--grey", "--picture", "fit=crop")
    short = ("--epochs", 2, "--tuning-epochs", 1, "--augment", "none", "--run-dir", tmp_path / "run")
    ran = pixelserve("train", "transfer", "--images", tmp_path / "lights", *options, *short)
    assert ran.exit_code == 0, ran.err
    assert "phase 1: the last layer learns on small, which is frozen" in ran.err
    assert "phase 2: all weights learn, 1 epochs" in ran.err
    exported = pixelserve("export", tmp_path / "run", "--to", tmp_path / "models")
    assert exported.exit_code == 0, exported.err
    config = (tmp_path / "models" / "lights" / "config.pbtxt").read_text()
    assert "size=24x16" in config
    assert "fit=crop" in config
    assert "TYPE_UINT8" in config
