"""The two ways from Keras to ONNX, and operator sets."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import read_card
from pixelserve.cli.export import Converter as Choice
from pixelserve_training import zoo
from pixelserve_training.errors import MissingLibraryError, SourceError, UsageError
from pixelserve_training.exporting import converters, graphs, sources
from pixelserve_training.exporting.converters import base, keras_jax
from pixelserve_training.exporting.converters.base import Conversion, Converted, choose_opset, content_of
from pixelserve_training.exporting.converters.pooling import pool_images
from pixelserve_training.exporting.signature import Signature, keras_signature
from pixelserve_training.exporting.verify import compare
from pixelserve_training.learners import backbones, onnx_weights
from pixelserve_training.learners.mirroring import mirrored
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

NETWORKS = [recipe.name for recipe in zoo.recipes() if isinstance(recipe, KerasRecipe)]
JAX = Conversion("keras-jax")


def network(name: str) -> Any:
    """Returns a recipe's network with random weights and statistics, as it is exported."""
    recipe = zoo.find(name)
    assert isinstance(recipe, KerasRecipe)
    classes = {"regression": 0, "iris": 3, "and": 2, "xor": 2}
    kind = "regression" if recipe.goal.metric != "accuracy" else recipe.dataset
    model = recipe.build(classes.get(kind, 10))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.5, 1.5, each.shape) for each in layer.get_weights()])
    return mirrored(model) if recipe.mirrored else model


@pytest.fixture(scope="module")
def signatures(keras: Any) -> dict[str, Signature]:
    keras.utils.set_random_seed(0)
    return {name: keras_signature(network(name), source=name) for name in NETWORKS}


@pytest.fixture(scope="module")
def by_jax(signatures: Mapping[str, Signature]) -> dict[str, Converted]:
    return keras_jax.convert_all(signatures, JAX, opset=keras_jax.CONVERTER.default_opset)


def inputs_of(signature: Signature) -> dict[str, Any]:
    random, shape = np.random.default_rng(0), (20, *(size or 1 for size in signature.shape[1:]))
    values = random.integers(0, 256, shape) if signature.dtype == "uint8" else random.random(shape)
    return {signature.input_name: values.astype(signature.dtype)}


def check(signature: Signature, converted: Converted) -> OnnxModel:
    """Compares a converted network with Keras as every export does, one sample alone and twenty together."""
    onnx.checker.check_model(converted.model)
    model = OnnxModel(content_of(converted.model), source="converted")
    assert model.batches
    assert [tensor.name for tensor in model.inputs] == [signature.input_name]
    assert [tensor.name for tensor in model.outputs] == list(signature.outputs)
    assert model.inputs[0].dtype == signature.dtype
    inputs = inputs_of(signature)
    for part in (inputs, {name: array[:1] for name, array in inputs.items()}):
        labelled = "probabilities" if "probabilities" in signature.outputs else None
        compare(model, signature.run, part, labelled=labelled, tolerance=None, precision="float32")
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_tf2onnx_keeps_what_each_recipe_computes(
    name: str, signatures: Mapping[str, Signature], tmp_path: Path
) -> None:
    converter = converters.find("tf2onnx")
    converted = converter.convert(signatures[name], Conversion(), opset=converter.default_opset, source=name)
    check(signatures[name], converted)
    assert {"keras", "tensorflow", "tf2onnx"} <= converted.made_with.keys()
    recipe = zoo.find(name)
    if isinstance(recipe, KerasRecipe) and name in backbones.recipe_names():
        # Its weights can be read back, for `train transfer --weights VERSION`; that proves it.
        (tmp_path / "model.onnx").write_bytes(content_of(converted.model))
        onnx_weights.read(recipe, tmp_path)


# All networks are converted in the first test's time.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NETWORKS)
def test_keras_on_jax_keeps_what_each_recipe_computes(
    name: str, signatures: Mapping[str, Signature], by_jax: Mapping[str, Converted]
) -> None:
    check(signatures[name], by_jax[name])
    assert {"keras", "jax", "jax2onnx"} <= by_jax[name].made_with.keys()
    assert not {"tensorflow", "tf2onnx"} & by_jax[name].made_with.keys()


def test_the_command_offers_each_converter() -> None:
    assert [choice.value for choice in Choice] == list(converters.CONVERTERS)


def test_recipes_of_other_libraries_have_one_converter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--converter keras-jax is for models of Keras"):
        sources._opset_of_other(JAX, tmp_path)
    assert sources._opset_of_other(Conversion(opset=20), tmp_path) == 20
    with pytest.raises(UsageError, match="--opset 12: the export of this model writes 13 to 22"):
        sources._opset_of_other(Conversion(opset=12), tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    """A network of scaled pixels with one probability for two classes, in a folder with labels and samples."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((6, 6, 1)), layers.Conv2D(4, 3), layers.MaxPooling2D(padding="same"), layers.Flatten()),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.save(folder / "own.keras")
    model.export(folder / "own", verbose=False)
    (folder / "labels.txt").write_text("cat\ndog\n")
    pixels = np.random.default_rng(2).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", x=pixels, y=np.arange(20) % 2)
    return folder


def test_pixels_and_both_classes_come_into_the_graph_by_jax_too(
    pixelserve: Command, saved: Path, tmp_path: Path
) -> None:
    options = ("--labels", saved / "labels.txt", "--samples", saved / "samples.npz", "--pixel-scale", "1/255")
    to = ("--name", "own", "--to", tmp_path, "--converter", "keras-jax", "--opset", "21", "--json")
    ran = pixelserve("export", saved / "own.keras", *options, *to)
    assert ran.exit_code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["inputs"], found["outputs"]) == (["image uint8 [-1, 6, 6, 1]"], ["probabilities float32 [-1, 2]"])
    assert (found["opset"], found["verified"]) == (21, True)
    card = read_card(tmp_path / "own" / "1" / "card.json")
    assert card.opset == 21
    assert card.versions["jax2onnx"]
    assert card.reference is not None
    assert card.reference.framework == "keras"


def test_a_saved_model_stays_with_tf2onnx(saved: Path) -> None:
    with pytest.raises(SourceError, match=r"--converter keras-jax needs a model whose layers Keras can save"):
        sources.read(saved / "own", conversion=JAX)


def test_without_the_environment_the_error_says_how_to_make_it(saved: Path, tmp_path: Path) -> None:
    conversion = replace(JAX, jax_python=tmp_path / "python")
    with pytest.raises(MissingLibraryError, match=r"python does not exist; .*\[keras-jax\]"):
        sources.read(saved / "own.keras", conversion=conversion)


def test_what_keras_says_on_jax_is_one_sentence(saved: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'ValueError: no such layer' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SourceError, match="cannot convert it on JAX: ValueError: no such layer; use --converter tf2o"):
        sources.read(saved / "own.keras", conversion=replace(JAX, jax_python=python))


@pytest.mark.parametrize("opset", [13, 18])
def test_the_asked_operator_set_is_in_the_file_and_in_the_card(
    opset: int, pixelserve: Command, saved: Path, tmp_path: Path
) -> None:
    options = ("--labels", saved / "labels.txt", "--samples", saved / "samples.npz", "--pixel-scale", "1/255")
    ran = pixelserve("export", saved / "own.keras", *options, "--name", "own", "--to", tmp_path, "--opset", opset)
    assert ran.exit_code == 0, ran.err
    version = tmp_path / "own" / "1"
    assert read_card(version / "card.json").opset == opset
    (found,) = [entry.version for entry in onnx.load(version / "model.onnx").opset_import if entry.domain == ""]
    assert found == opset


@pytest.mark.parametrize(("opset", "bounds"), [(12, "13 to 18"), (19, "13 to 18"), (0, "13 to 18")])
def test_an_operator_set_that_tf2onnx_does_not_write_is_refused(opset: int, bounds: str, saved: Path) -> None:
    with pytest.raises(UsageError, match=f"--opset {opset}: --converter tf2onnx writes {bounds}; omit the option for"):
        sources.read(saved / "own.keras", conversion=Conversion(opset=opset))


def test_an_operator_set_of_the_future_is_refused_by_the_library_that_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match=r"--opset 99: onnx [\d.]+ knows up to \d+; install a newer onnx"):
        choose_opset(99, range(13, 100), 17, writer="it")
    newest = onnx.defs.onnx_opset_version()
    monkeypatch.setattr(base, "ir_version", lambda _: 99)
    with pytest.raises(UsageError, match=f"--opset {newest}: ONNX Runtime .* does not load it"):
        choose_opset(newest, range(13, 100), 17, writer="it")


def test_what_is_onnx_already_keeps_its_operator_set(own_onnx: Path) -> None:
    with pytest.raises(UsageError, match="is ONNX already and is served as it is: omit --converter and --opset"):
        sources.read(own_onnx, conversion=Conversion(opset=18))
    assert sources.read(own_onnx, conversion=Conversion(jax_python=Path("python"))).opset == 17


@pytest.mark.parametrize("opset", [13, 22])
def test_networks_of_numpy_are_written_in_each_operator_set(opset: int) -> None:
    from pixelserve_training.learners.backprop import SigmoidLayer

    layer = SigmoidLayer(np.ones((2, 1)), np.zeros(1))
    content = graphs.sigmoid_network([layer], opset)
    onnx.checker.check_model(content)
    assert base.opset_of(content) == opset
    assert OnnxModel(content, source="numpy").run({"features": np.ones((3, 2), np.float32)})


def six_dimensional_pool(window: list[int], pads: list[int] | None = None) -> onnx.ModelProto:
    """Returns a pool as jax2onnx writes it: images [N, 4, 4, 2], in six dimensions."""
    more = {} if pads is None else {"pads": pads}
    nodes = [
        helper.make_node("Unsqueeze", ["image", "axis"], ["five"]),
        helper.make_node("Unsqueeze", ["five", "axis"], ["six"]),
        helper.make_node("MaxPool", ["six"], ["pooled"], kernel_shape=window, strides=window, **more),
        helper.make_node("Squeeze", ["pooled", "axes"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, 4, 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", None, None, None])],
        [numpy_helper.from_array(np.array([0]), "axis"), numpy_helper.from_array(np.array([0, 1]), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_pools_over_height_and_width_become_onnxs() -> None:
    model = six_dimensional_pool([1, 3, 3, 1], [0, 0, 1, 0, 0, 2, 1, 0])
    assert pool_images(model) == 1
    onnx.checker.check_model(model)
    images = np.random.default_rng(0).random((3, 4, 4, 2), dtype=np.float32)
    found = OnnxModel(model.SerializeToString(), source="pool").run({"image": images})["output"]
    padded = np.pad(images, ((0, 0), (0, 2), (1, 1), (0, 0)), constant_values=-np.inf)
    np.testing.assert_array_equal(found, padded.reshape(3, 2, 3, 2, 3, 2).max(axis=(2, 4)))


@pytest.mark.parametrize("window", [[1, 2, 2, 2], [2, 2, 2, 1]])
def test_pools_over_channels_or_samples_stay(window: list[int]) -> None:
    model = six_dimensional_pool(window)
    assert pool_images(model) == 0
    assert [node.op_type for node in model.graph.node] == ["Unsqueeze", "Unsqueeze", "MaxPool", "Squeeze"]
