import json
import math
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pixelserve.card import Card, read_card
from pixelserve.golden import read_golden, replay
from pixelserve_training.errors import SamplesError, SourceError, TrainingError, UsageError
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.exporting.reasons import reason_of
from pixelserve_training.runtime import OnnxModel

ROOT = Path(__file__).resolve().parents[3]
Command = Callable[..., Any]
Own = Any

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def _export(path: Path, to: Path, **options: Any) -> Exported:
    given = {"labels": None, "samples": None, "pixel_scale": None} | options
    return export_file(path, Target(to, "own"), **given)


def _replayed(exported: Exported) -> float:
    folder = exported.slot.folder
    model = OnnxModel((folder / "model.onnx").read_bytes(), source="model.onnx")
    return replay(read_golden(folder / "golden.npz"), model.run, exported.card.tolerance("CPUExecutionProvider"))


@pytest.mark.parametrize(
    ("form", "tensors", "framework"),
    [
        ("keras", ("image float32 [-1, 6, 6, 1]", "probabilities float32 [-1, 3]"), "keras"),
        ("h5", ("image float32 [-1, 6, 6, 1]", "probabilities float32 [-1, 3]"), "keras"),
        ("saved_model", ("image float32 [-1, 6, 6, 1]", "output float32 [-1, 3]"), "tensorflow"),
        ("onnx", ("pixels float32 [-1, 6, 6, 1]", "scores float32 [-1, 3]"), "onnxruntime"),
    ],
)
def test_every_form_of_model_becomes_a_verified_version(
    own: Own, tmp_path: Path, form: str, tensors: tuple[str, str], framework: str
) -> None:
    exported = _export(getattr(own, form), tmp_path, labels=own.labels, samples=own.samples)
    assert (*exported.inputs, *exported.outputs) == tensors
    assert exported.golden_samples == 16
    assert _replayed(exported) <= 1e-5
    card = read_card(exported.slot.folder / "card.json")
    assert card.reference is not None
    assert card.reference.framework == framework
    assert card.evaluation is not None
    assert card.evaluation.samples == 20
    assert card.dataset is not None
    assert card.dataset.name == "samples.npz"


@pytest.mark.parametrize("form", ["keras", "h5", "saved_model", "onnx"])
def test_without_samples_a_version_is_written_and_called_unverified(
    pixelserve: Command, own: Own, tmp_path: Path, form: str
) -> None:
    ran = pixelserve("export", getattr(own, form), "--name", "own", "--labels", own.labels, "--to", tmp_path)
    assert ran.exit_code == 0, ran.err
    assert "unverified" in ran.out
    folder = tmp_path / "own" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.onnx"]
    card: Card = read_card(folder / "card.json")
    assert card.evaluation is None
    assert card.parity == []


@pytest.mark.parametrize("form", ["keras", "saved_model"])
def test_a_pixel_scale_lets_clients_send_raw_pixels(own: Own, tmp_path: Path, form: str) -> None:
    path = getattr(own, form)
    scaled = _export(path, tmp_path / "scaled", labels=own.labels, samples=own.samples)
    raw = _export(path, tmp_path / "raw", labels=own.labels, samples=own.raw_samples, pixel_scale=1 / 255)
    assert raw.inputs == ["image uint8 [-1, 6, 6, 1]"]
    outputs = [read_golden(exported.slot.folder / "golden.npz").outputs for exported in (scaled, raw)]
    for name, array in outputs[0].items():
        np.testing.assert_allclose(array, outputs[1][name], atol=1e-6)


def test_a_pixel_scale_may_be_a_fraction_on_the_command_line(pixelserve: Command, own: Own, tmp_path: Path) -> None:
    options = ("--name", "own", "--labels", own.labels, "--samples", own.raw_samples, "--pixel-scale", "1/255")
    ran = pixelserve("export", own.keras, *options, "--to", tmp_path, "--json")
    assert ran.exit_code == 0, ran.err
    assert json.loads(ran.out)["inputs"] == ["image uint8 [-1, 6, 6, 1]"]


def test_raw_pixels_for_a_model_of_floats_get_a_note(own: Own, tmp_path: Path, capsys: Any) -> None:
    _export(own.keras, tmp_path, labels=own.labels, samples=own.raw_samples)
    assert "needs --pixel-scale" in capsys.readouterr().err


def test_a_model_whose_rows_depend_on_each_other_is_exported_one_sample_a_run(
    own: Own, single_onnx: Path, tmp_path: Path, capsys: Any
) -> None:
    pixels = np.load(own.samples)["x"]
    np.savez(tmp_path / "single.npz", x=pixels[:, np.newaxis], y=np.zeros(20, int))
    exported = _export(single_onnx, tmp_path / "models", labels=own.labels, samples=tmp_path / "single.npz")
    assert "export it with a free first dimension" in capsys.readouterr().err
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert "max_batch_size" not in config
    assert "dims: [1, 6, 6, 1]" in config
    assert "dynamic_batching" not in config
    assert read_golden(exported.slot.folder / "golden.npz").outputs["scores"].shape == (16, 1, 3)
    assert _replayed(exported) == 0


@pytest.mark.parametrize("shape", [(20, 6, 6, 1), (20, 1, 6, 6, 1)], ids=["samples", "samples of one row"])
def test_a_model_of_one_row_a_run_gets_a_free_batch_dimension_where_its_rows_are_independent(
    own: Own, one_row_onnx: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    np.savez(tmp_path / "samples.npz", x=np.load(own.samples)["x"].reshape(shape))
    alone = OnnxModel(one_row_onnx.read_bytes(), source="single")
    exported = _export(one_row_onnx, tmp_path / "models", labels=own.labels, samples=tmp_path / "samples.npz")
    assert exported.inputs == ["pixels float32 [-1, 6, 6, 1]"]
    assert "max_batch_size: 64" in (exported.slot.model_folder / "config.pbtxt").read_text()
    golden = read_golden(exported.slot.folder / "golden.npz")
    for row, scores in zip(golden.inputs["pixels"], golden.outputs["scores"], strict=True):
        np.testing.assert_allclose(alone.run_once({"pixels": row[np.newaxis]})["scores"][0], scores, atol=1e-6)


def test_a_regression_needs_no_labels(keras: Any, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "line.keras")
    np.savez(tmp_path / "samples.npz", x=np.ones((4, 2)), y=np.ones(4))
    exported = _export(tmp_path / "line.keras", tmp_path / "models", samples=tmp_path / "samples.npz")
    assert exported.card.task == "unknown"
    assert exported.inputs == ["features float32 [-1, 2]"]
    assert exported.outputs == ["output float32 [-1, 1]"]
    assert not (exported.slot.model_folder / "labels.txt").exists()
    assert exported.card.evaluation is None


@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_a_normalization_layer_keeps_its_mean_and_variance_inside(keras: Any, tmp_path: Path, kind: str) -> None:
    layers = keras.layers
    normalized = layers.Normalization(mean=(39.0, 69.0), variance=(144.0, 156.0))
    model = keras.Sequential([keras.Input((2,)), normalized, layers.Dense(1)])
    path = tmp_path / ("line.keras" if kind == "keras" else "line")
    model.save(path) if kind == "keras" else model.export(path, verbose=False)
    np.savez(tmp_path / "samples.npz", x=np.array([[46.0, 84.0], [20.0, 73.0]], np.float32))
    exported = _export(path, tmp_path / "models", samples=tmp_path / "samples.npz")
    assert exported.inputs == ["features float32 [-1, 2]"]
    assert exported.max_abs_error is not None
    assert _replayed(exported) <= 1e-5


def test_a_classifier_needs_labels(own: Own, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give its labels with --labels"):
        _export(own.keras, tmp_path)


def test_a_wrong_number_of_labels_is_refused(own: Own, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    with pytest.raises(SamplesError, match="2 labels are given, but probabilities has 3 classes"):
        _export(own.keras, tmp_path / "models", labels=labels)
    assert not (tmp_path / "models").exists()


def test_a_model_needs_a_name(own: Own, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name"):
        export_file(own.onnx, Target(tmp_path), labels=own.labels, samples=None, pixel_scale=None)


@pytest.mark.parametrize("text", ["", "cat\n\nowl\n", "cat\ncat\nowl\n"])
def test_a_bad_label_file_is_refused(own: Own, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(SamplesError, match=r"labels\.txt: "):
        _export(own.onnx, tmp_path / "models", labels=tmp_path / "labels.txt")


def test_a_version_with_other_tensors_is_refused(own: Own, tmp_path: Path) -> None:
    _export(own.keras, tmp_path, labels=own.labels)
    with pytest.raises(UsageError, match="has the input image TYPE_FP32"):
        _export(own.onnx, tmp_path, labels=own.labels)
    assert not (tmp_path / "own" / "2").exists()


def test_the_card_of_an_onnx_file_says_what_the_file_says(own: Own, tmp_path: Path) -> None:
    model = onnx.load(own.onnx)
    model.producer_name, model.producer_version = "pytorch", "2.9.1"
    onnx.save(model, tmp_path / "own.onnx")
    with_samples = _export(tmp_path / "own.onnx", tmp_path, labels=own.labels, samples=own.samples).card
    assert with_samples.versions == {"pytorch": "2.9.1"}
    assert with_samples.reference is not None
    assert with_samples.reference.framework == "onnxruntime"
    assert with_samples.task == "image"
    without = _export(tmp_path / "own.onnx", tmp_path / "others").card
    assert without.reference is None
    assert without.task == "unknown"


def test_the_card_of_an_onnx_file_that_says_nothing_names_no_library(own: Own, tmp_path: Path) -> None:
    assert _export(own.onnx, tmp_path, labels=own.labels).card.versions == {}


def test_the_card_of_an_onnx_file_that_names_no_version_calls_it_unknown(own: Own, tmp_path: Path) -> None:
    model = onnx.load(own.onnx)
    model.producer_name = "PaddlePaddle"
    onnx.save(model, tmp_path / "own.onnx")
    assert _export(tmp_path / "own.onnx", tmp_path, labels=own.labels).card.versions == {"PaddlePaddle": "unknown"}


def test_the_card_of_a_keras_model_names_the_libraries_that_made_the_file(own: Own, tmp_path: Path) -> None:
    versions = _export(own.keras, tmp_path, labels=own.labels).card.versions
    assert {"keras", "tensorflow", "tf2onnx"} <= versions.keys()
    assert not {"scikit-learn", "skl2onnx", "onnxruntime"} & versions.keys()


@pytest.mark.parametrize(
    ("shapes", "kind", "task"),
    [
        ([(6, 6, 1)], TensorProto.FLOAT, "image"),
        ([(3, 8, 8)], TensorProto.UINT8, "image"),
        ([(6, 6, 16)], TensorProto.FLOAT, "unknown"),
        ([(48, 320)], TensorProto.FLOAT, "unknown"),
        ([(7,)], TensorProto.FLOAT, "tabular"),
        ([(7,)], TensorProto.INT64, "unknown"),
        ([(1,), (1,)], TensorProto.FLOAT, "tabular"),
    ],
    ids=["picture", "picture, channels first", "features of a picture", "signal", "row", "words", "columns"],
)
def test_the_card_calls_a_task_what_the_inputs_show(
    own: Own, tmp_path: Path, shapes: list[tuple[int, ...]], kind: int, task: str
) -> None:
    names = [f"input_{number}" for number in range(len(shapes))]
    inputs = [
        helper.make_tensor_value_info(each, kind, ["N", *shape]) for each, shape in zip(names, shapes, strict=True)
    ]
    width = sum(math.prod(shape) for shape in shapes)
    nodes = [helper.make_node("Flatten", [each], [f"{each}_flat"]) for each in names]
    nodes.append(helper.make_node("Concat", [f"{each}_flat" for each in names], ["all"], axis=1))
    nodes.append(helper.make_node("Cast", ["all"], ["row"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("MatMul", ["row", "weights"], ["scores"]))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])]
    weights = onnx.numpy_helper.from_array(np.ones((width, 3), np.float32), "weights")
    graph = helper.make_graph(nodes, "task", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert _export(tmp_path / "m.onnx", tmp_path, labels=own.labels).card.task == task


def _two_outputs(path: Path, first: str, second: str) -> None:
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Neg", ["scores"], [second]))
    model.graph.output.append(helper.make_tensor_value_info(second, TensorProto.FLOAT, ["N", 3]))
    for node in model.graph.node:
        node.output[:] = [first if name == "scores" else name for name in node.output]
        node.input[:] = [first if name == "scores" else name for name in node.input]
    model.graph.output[0].name = first
    onnx.save(model, path)


def test_labels_go_to_the_output_that_is_named(own: Own, tmp_path: Path) -> None:
    shutil.copy(own.onnx, tmp_path / "own.onnx")
    _two_outputs(tmp_path / "own.onnx", "left", "right")
    with pytest.raises(SamplesError, match="fit several outputs: left, right; choose one with --output"):
        _export(tmp_path / "own.onnx", tmp_path / "models", labels=own.labels)
    target = Target(tmp_path / "models", "own", output="right")
    exported = export_file(tmp_path / "own.onnx", target, labels=own.labels, samples=None, pixel_scale=None)
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert config.index('name: "left"') < config.index('name: "right"') < config.index("label_filename")


def test_labels_go_to_the_only_output_that_they_fit(own: Own, tmp_path: Path) -> None:
    model = onnx.load(own.onnx)
    model.graph.node.append(helper.make_node("Identity", ["flat"], ["features"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 36]))
    onnx.save(model, tmp_path / "own.onnx")
    exported = _export(tmp_path / "own.onnx", tmp_path, labels=own.labels, samples=own.samples)
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert config.index('name: "features"') < config.index('name: "scores"') < config.index("label_filename")
    assert exported.accuracy is not None


def test_labels_go_to_the_output_with_a_score_for_each_before_one_with_a_score_for_two(
    own: Own, tmp_path: Path
) -> None:
    model = onnx.load(own.onnx)
    weights = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "two")
    model.graph.initializer.append(weights)
    model.graph.node.append(helper.make_node("MatMul", ["scores", "two"], ["shares"]))
    model.graph.node.append(helper.make_node("ReduceMax", ["shares"], ["risk"], axes=[1]))
    del model.graph.output[:]
    for name, width in (("risk", 1), ("shares", 2)):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]))
    onnx.save(model, tmp_path / "own.onnx")
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    exported = _export(tmp_path / "own.onnx", tmp_path, labels=tmp_path / "labels.txt")
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert config.index('name: "risk"') < config.index('name: "shares"') < config.index("label_filename")


def test_an_output_of_whole_numbers_has_no_scores(own: Own, tmp_path: Path) -> None:
    model = onnx.load(own.onnx)
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    onnx.save(model, tmp_path / "own.onnx")
    target = Target(tmp_path / "models", "own", output="label")
    with pytest.raises(UsageError, match="label is int64, and scores are floats; outputs of floats: scores"):
        export_file(tmp_path / "own.onnx", target, labels=own.labels, samples=None, pixel_scale=None)


@pytest.mark.parametrize(
    ("output", "has_labels", "said"),
    [
        ("probs", True, "the model has no such output; it has: scores"),
        ("scores", False, "give them with --labels FILE"),
    ],
)
def test_an_output_that_labels_cannot_go_to_is_refused(
    own: Own, tmp_path: Path, output: str, has_labels: bool, said: str
) -> None:
    target = Target(tmp_path / "models", "own", output=output)
    labels = own.labels if has_labels else None
    with pytest.raises(UsageError, match=said):
        export_file(own.onnx, target, labels=labels, samples=None, pixel_scale=None)


PIXELS = np.zeros((4, 6, 6, 1), np.float32)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((4, 5, 6, 1))}, r"has shape \[4, 5, 6, 1\], expected \[samples, 6, 6, 1\]"),
        ({"x": PIXELS.astype(complex)}, "is complex128, the model's input is float32"),
        ({"a": PIXELS, "b": PIXELS}, 'no array "pixels"'),
        ({"x": PIXELS, "y": np.zeros(3, int)}, r"labels are int64 \[3\]"),
        ({"x": PIXELS, "y": np.zeros(4)}, r"labels are float64"),
        ({"x": PIXELS, "y": np.full(4, 3)}, "a sample's label is 3; expected 0 to 2"),
        ({"x": PIXELS[:0]}, "at least one"),
    ],
)
def test_samples_that_do_not_fit_are_refused(own: Own, tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    with pytest.raises(SamplesError, match=reason):
        _export(own.onnx, tmp_path / "models", labels=own.labels, samples=tmp_path / "samples.npz")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["missing.npz", "garbage.npz", "array.npy"])
def test_samples_that_cannot_be_read_are_named(own: Own, tmp_path: Path, name: str) -> None:
    (tmp_path / "garbage.npz").write_bytes(b"garbage")
    np.save(tmp_path / "array.npy", PIXELS)
    with pytest.raises(SamplesError, match=name):
        _export(own.onnx, tmp_path / "models", labels=own.labels, samples=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.keras", "no such file"),
        ("model.txt", "expected a run's folder, a .keras, .h5 or .onnx file"),
        ("garbage.keras", "cannot load it"),
        ("garbage.h5", "cannot load it"),
        ("garbage.onnx", "not a valid ONNX model"),
        ("garbage", "cannot load it"),
        ("empty", "not a model that can be exported"),
        ("unsigned", "no signature serving_default"),
        ("custom.keras", "Could not locate class 'Doubled'"),
        ("custom.h5", "Unknown layer: 'Doubled'"),
        ("two.keras", "expected a model with one input, found 2"),
        ("unbuilt.h5", "the input shape is unknown"),
        ("weights.weights.h5", "holds weights without their network"),
        ("weights_of_keras_2.h5", "holds weights without their network"),
        ("saved", "is a checkpoint, which holds weights without their network"),
        ("saved.index", "is a checkpoint, which holds weights without their network"),
        ("augmenting", "save the model with model.save('model.keras') instead"),
    ],
)
def test_a_model_that_cannot_be_read_is_named(
    odd_models: Path, own: Own, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(SourceError) as raised:
        _export(odd_models / name, tmp_path / "models", labels=own.labels)
    message = str(raised.value)
    assert name in message
    assert reason in message
    assert "\n" not in message
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def odd_models(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    import tensorflow as tf

    class Doubled(keras.layers.Layer):  # type: ignore[misc,name-defined]
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    folder = tmp_path_factory.mktemp("odd")
    for name in ("model.txt", "garbage.keras", "garbage.h5", "garbage.onnx"):
        (folder / name).write_bytes(b"garbage")
    (folder / "garbage").mkdir()
    (folder / "garbage" / "saved_model.pb").write_bytes(b"garbage")
    (folder / "empty").mkdir()
    tf.saved_model.save(tf.Module(), str(folder / "unsigned"))
    custom = keras.Sequential([keras.Input((2,)), Doubled()])
    custom.save(folder / "custom.keras")
    custom.save(folder / "custom.h5")
    inputs = [keras.Input((2,)), keras.Input((2,))]
    keras.Model(inputs, keras.layers.Add()(inputs)).save(folder / "two.keras")
    keras.Sequential([keras.layers.Dense(2)]).save(folder / "unbuilt.h5")
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    dense.save_weights(folder / "weights.weights.h5")
    with h5py.File(folder / "weights_of_keras_2.h5", "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = ["dense"], "2.8.0"
    tf.train.Checkpoint(dense).write(str(folder / "saved"))
    augmenting = tf.Module()
    augmenting.call = tf.function(
        lambda x: x + tf.random.stateless_uniform((2,), tf.cast(x[0], tf.int32)),
        input_signature=[tf.TensorSpec((None, 2), tf.float32)],
    )
    tf.saved_model.save(augmenting, str(folder / "augmenting"))
    return folder


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Too many dimensions.", "Too many dimensions"),
        (
            "Exception encountered when calling D.call().\n\n\x1b[1mInput 0 is too long\x1b[0m\n\nArguments",
            "Input 0 is too long",
        ),
        ("in user code:\n\n    File x\n\n    TypeError: no such axis\n", "TypeError: no such axis"),
        ("Error when deserializing class 'A' using config={1.}.\n\nException encountered: bad name.", "bad name"),
        ("Could not locate class 'Own'. Make sure that it is registered.", "Could not locate class 'Own'"),
        ("", "ValueError"),
    ],
)
def test_the_reason_is_the_line_that_says_what_is_wrong(message: str, reason: str) -> None:
    assert reason_of(ValueError(message)) == reason


def test_an_input_in_a_dictionary_is_given_as_one(keras: Any, own: Own, tmp_path: Path) -> None:
    image = keras.Input((6, 6, 1), name="pixels")
    output = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
    keras.Model({"pixels": image}, output).save(tmp_path / "one.keras")
    exported = _export(tmp_path / "one.keras", tmp_path / "models", labels=own.labels, samples=own.samples)
    assert exported.inputs == ["image float32 [-1, 6, 6, 1]"]
    assert _replayed(exported) <= 1e-5


@pytest.mark.parametrize("form", ["keras", "saved_model"])
def test_a_dictionary_of_outputs_keeps_its_names(keras: Any, tmp_path: Path, form: str) -> None:
    image = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(image)
    outputs = {"kind": keras.layers.Dense(3, activation="softmax")(flat), "age": keras.layers.Dense(1)(flat)}
    model = keras.Model(image, outputs)
    path = tmp_path / ("two.keras" if form == "keras" else "two")
    model.save(path) if form == "keras" else model.export(path, verbose=False)
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).normal(size=(4, 6, 6, 1)))
    exported = _export(path, tmp_path / "models", samples=tmp_path / "samples.npz")
    assert sorted(exported.outputs) == ["age float32 [-1, 1]", "kind float32 [-1, 3]"]
    assert _replayed(exported) <= 1e-5


@pytest.mark.parametrize("returned", [list, dict])
def test_one_output_in_a_list_or_a_dictionary_is_a_classifiers(
    keras: Any, own: Own, tmp_path: Path, returned: type
) -> None:
    image = keras.Input((6, 6, 1))
    output = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
    keras.Model(image, [output] if returned is list else {"kind": output}).save(tmp_path / "one.keras")
    exported = _export(tmp_path / "one.keras", tmp_path / "models", labels=own.labels, samples=own.samples)
    assert exported.outputs == [f"{'probabilities' if returned is list else 'kind'} float32 [-1, 3]"]
    assert _replayed(exported) <= 1e-5


def test_outputs_of_a_list_have_their_layers_names_and_order(keras: Any, tmp_path: Path) -> None:
    image = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(image)
    outputs = [keras.layers.Dense(3, name="second")(flat), keras.layers.Dense(1, name="first")(flat)]
    keras.Model(image, outputs).save(tmp_path / "two.keras")
    exported = _export(tmp_path / "two.keras", tmp_path / "models")
    assert exported.outputs == ["second float32 [-1, 3]", "first float32 [-1, 1]"]


def test_a_saved_model_of_one_signature_needs_no_default(own: Own, tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable([[2.0], [3.0]])
    spec = [tf.TensorSpec((None, 2), tf.float32)]
    one, two = (tf.function(lambda x, n=n: {"y": x @ module.weights * n}, input_signature=spec) for n in (1.0, 2.0))
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"predict": one})
    tf.saved_model.save(module, str(tmp_path / "default"), signatures={"other": two, "serving_default": one})
    tf.saved_model.save(module, str(tmp_path / "several"), signatures={"predict": one, "other": two})
    np.savez(tmp_path / "samples.npz", x=np.ones((2, 2), np.float32))
    for name in ("one", "default"):
        exported = _export(tmp_path / name, tmp_path / f"{name}-models", samples=tmp_path / "samples.npz")
        golden = read_golden(exported.slot.folder / "golden.npz")
        assert golden.outputs["output"].tolist() == [[5.0], [5.0]]
    with pytest.raises(SourceError, match=r"no signature serving_default \(it has: .*other"):
        _export(tmp_path / "several", tmp_path / "models")


def test_a_saved_model_with_the_slots_of_an_old_optimizer_is_read(own: Own, tmp_path: Path) -> None:
    """TensorFlow up to 2.10 saved a fitted model in this way; its own loader fails without the optimizer's class."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(own.saved_model, tmp_path / "fitted")
    file = tmp_path / "fitted" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    variable = next(number for number, node in enumerate(nodes) if node.WhichOneof("kind") == "variable")
    slot = nodes.add()
    slot.CopyFrom(nodes[variable])
    optimizer = nodes.add()
    optimizer.user_object.identifier = "optimizer"
    optimizer.slot_variables.add(
        original_variable_node_id=variable, slot_name="momentum", slot_variable_node_id=len(nodes) - 2
    )
    nodes[0].children.add(node_id=len(nodes) - 1, local_name="optimizer")
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(tmp_path / "fitted"))
    exported = _export(tmp_path / "fitted", tmp_path / "models", labels=own.labels, samples=own.samples)
    assert _replayed(exported) <= 1e-5


def test_a_truncated_keras_file_is_named(own: Own, tmp_path: Path) -> None:
    path = tmp_path / "cut.keras"
    path.write_bytes(own.keras.read_bytes()[:-200])
    assert not zipfile.is_zipfile(path)
    with pytest.raises(SourceError, match=r"cut\.keras"):
        _export(path, tmp_path / "models", labels=own.labels)


def test_a_pixel_scale_is_refused_where_it_has_no_meaning(own: Own, run_folder: Path, tmp_path: Path) -> None:
    for path, reason in (
        (own.onnx, "for an .onnx file, give the range of its training pixels with --scale"),
        (run_folder / "model.keras", "takes uint8 already"),
    ):
        with pytest.raises(UsageError, match=reason):
            _export(path, tmp_path / "models", labels=own.labels, pixel_scale=1 / 255)


@pytest.mark.parametrize("scale", ["0", "-1", "1/0", "half"])
def test_a_bad_pixel_scale_is_refused(pixelserve: Command, own: Own, tmp_path: Path, scale: str) -> None:
    ran = pixelserve("export", own.keras, "--name", "own", "--to", tmp_path, "--pixel-scale", scale)
    assert ran.exit_code == 2
    assert "expected a number above 0, such as 1/255" in ran.err


def test_an_error_is_one_sentence_without_a_traceback(pixelserve: Command, tmp_path: Path) -> None:
    ran = pixelserve("export", tmp_path / "missing.keras", "--to", tmp_path / "models")
    assert ran.exit_code == SourceError.exit_code
    assert ran.err.splitlines()[-1] == f"pixelserve: {tmp_path / 'missing.keras'}: no such file or folder"
    assert issubclass(SourceError, TrainingError)


def _modules_outside(extra: str) -> set[str]:
    """Returns the installed top-level modules that PixelServe does not bring with one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"][extra])]
    brought = {"pixelserve"}
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name not in brought:
            brought.add(name)
            needed = [Requirement(text) for text in metadata.requires(name) or ()]
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not any(canonicalize_name(distribution) in brought for distribution in distributions)
    }


def test_help_and_an_onnx_export_need_nothing_but_the_extra_export(own_onnx: Path, tmp_path: Path) -> None:
    others = _modules_outside("export")
    assert {"tensorflow", "keras", "tf2onnx", "sklearn", "skl2onnx", "scipy", "matplotlib", "jinja2"} <= others
    assert not {"onnx", "onnxruntime", "numpy", "pydantic", "PIL", "typer", "rich"} & others
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nowl\n")
    np.savez(tmp_path / "samples.npz", x=np.zeros((20, 6, 6, 1)), y=np.arange(20) % 3)
    script = f"""
import sys
for module in {sorted(others)}:
    # What stands there cannot be imported.
    sys.modules[module] = None
from pixelserve import cli
def run(*arguments):
    sys.argv = ["pixelserve", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code
run("train", "--help")
run("export", "--help")
run("export", "{own_onnx}", "--name", "own", "--labels", "{labels}", "--samples", "{tmp_path}/samples.npz",
    "--to", "{tmp_path}/models")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "own version 1" in done.stdout
