"""`pixelserve export --precision int8`: an int8 version, compared with the float32 model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import Card, read_card, verify_model_file
from pixelserve.golden import read_golden, replay
from pixelserve_training.datasets import idx
from pixelserve_training.errors import ParityError, SamplesError, SourceError, UsageError
from pixelserve_training.exporting import precision, quantize
from pixelserve_training.exporting.export import Exported, Target, export_file, export_run
from pixelserve_training.exporting.quantize import CALIBRATION_SAMPLES, Calibration
from pixelserve_training.measuring.remeasure import remeasure
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
CNN = ROOT / "models" / "mnist-cnn"
MNIST = ROOT / "tests" / "data" / "mnist"
# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
# Loading ONNX Runtime's quantiser takes a second.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(_KERAS_WARNING),
    pytest.mark.usefixtures("short_timing"),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hundred real digits with their labels."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    images = idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)[:600, ..., np.newaxis]
    np.savez(path, x=images, y=idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)[:600])
    return path


def to_int8(path: Path, repository: Path, **options: Any) -> Exported:
    given = {"labels": None, "samples": None, "pixel_scale": None} | options
    return export_file(path, Target(repository, "own", precision="int8"), **given)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The version folder of mnist-cnn in int8."""
    repository = tmp_path_factory.mktemp("models")
    exported = to_int8(CNN / "1" / "model.onnx", repository, labels=CNN / "labels.txt", samples=digits)
    return exported.slot.folder


def loaded(folder: Path, **options: Any) -> OnnxModel:
    return OnnxModel((folder / "model.onnx").read_bytes(), source="model.onnx", **options)


def test_inputs_and_outputs_keep_their_types_and_the_file_shrinks(cnn: Path) -> None:
    original = loaded(CNN / "1")
    assert (loaded(cnn).inputs, loaded(cnn).outputs) == (original.inputs, original.outputs)
    assert (cnn / "model.onnx").stat().st_size < 0.35 * (CNN / "1" / "model.onnx").stat().st_size


def test_weights_are_whole_numbers_with_a_scale_for_each_channel(cnn: Path) -> None:
    graph = onnx.load(cnn / "model.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    convolutions = [producers[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert [constants[node.input[0]].dtype for node in convolutions] == [np.int8] * 3
    assert [constants[node.input[1]].shape for node in convolutions] == [(32,), (64,), (64,)]
    # Processors without VNNI would overflow with more than 7 bits.
    assert max(np.abs(constants[node.input[0]].astype(int)).max() for node in convolutions) <= 64


def test_the_last_layer_stays_in_floats_so_that_probabilities_add_up(cnn: Path, digits: Path) -> None:
    graph = onnx.load(cnn / "model.onnx").graph
    assert [node.op_type for node in graph.node][-2:] == ["Gemm", "Softmax"]
    probabilities = loaded(cnn).run({"image": np.load(digits)["x"]})["probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_the_card_says_what_int8_costs_and_brings(cnn: Path, digits: Path) -> None:
    card = read_card(cnn / "card.json")
    verify_model_file(card, cnn / "model.onnx")
    found = card.quantization
    assert found is not None
    assert (found.precision, found.calibration_split, found.calibration_samples) == ("int8", "samples", 500)
    images, labels = np.load(digits)["x"], np.load(digits)["y"]
    was, now = (loaded(folder).run({"image": images})["probabilities"] for folder in (CNN / "1", cnn))
    assert found.float32_accuracy == (was.argmax(axis=1) == labels).mean()
    assert found.changed_labels == (was.argmax(axis=1) != now.argmax(axis=1)).sum()
    assert found.max_abs_error == pytest.approx(np.abs(was - now).max())
    assert set(found.relative_time) == {"1", "64"}
    assert card.evaluation is not None
    assert card.evaluation.metrics["accuracy"] == (now.argmax(axis=1) == labels).mean()
    assert card.evaluation.metrics["accuracy"] >= found.float32_accuracy - 0.003
    assert found.original.framework == "onnxruntime"


def test_golden_outputs_are_its_own_and_hold_with_every_kind_of_kernel(cnn: Path) -> None:
    card, golden = read_card(cnn / "card.json"), read_golden(cnn / "golden.npz")
    assert card.reference is not None
    assert card.reference.framework == "onnxruntime"
    cpu, cuda = card.parity
    assert (cpu.precision, cuda.precision) == ("int8", "int8")
    assert cpu.samples == 600
    assert cpu.max_abs_error is not None
    assert max(4 * cpu.max_abs_error, 0.01) == cpu.tolerance == cuda.tolerance
    assert replay(golden, loaded(cnn).run, card.tolerance("CPUExecutionProvider")) == 0
    replay(golden, loaded(cnn, as_written=True).run, card.tolerance("CUDAExecutionProvider"))


def test_an_int8_version_is_measured_again_like_any_other(cnn: Path, digits: Path) -> None:
    found = remeasure(str(cnn), repository=Path("models"), data_dir=None, samples=digits)
    assert (found.incomparable, found.differences) == ("", [])


def test_the_command_prints_what_int8_costs_and_brings(pixelserve: Command, digits: Path, tmp_path: Path) -> None:
    source = CNN / "1" / "model.onnx"
    options = ("--name", "own", "--labels", CNN / "labels.txt", "--samples", digits, "--precision", "int8")
    ran = pixelserve("export", source, *options, "--to", tmp_path)
    assert ran.exit_code == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("int8, against float32: accuracy 9")]
    assert "labels changed, 0.30 of its size" in line
    assert "of its time in batches of 64" in line
    result = json.loads(pixelserve("export", source, *options, "--to", tmp_path, "--json").out)
    assert result["version"] == 2
    assert result["quantization"]["precision"] == "int8"
    assert result["max_abs_error"] == result["quantization"]["max_abs_error"]


def write_network(path: Path, *, rows: int | str = "N") -> None:
    """Writes a classifier of two layers, which tells by the second of its two features; nodes have no names."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "own",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [rows, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, 2])],
        [
            numpy_helper.from_array(np.array([[0, 0], [1, -1]], np.float32), "first"),
            numpy_helper.from_array(np.array([[-5, 5], [5, -5]], np.float32), "second"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_samples(path: Path, *, ignored: float, shape: tuple[int, ...] = (2,)) -> None:
    """Writes 40 samples; their first feature, up to `ignored`, has no bearing on the label."""
    second = np.tile([-1.0, 1.0], 20)
    features = np.stack([np.linspace(-ignored, ignored, 40), second], axis=1)
    np.savez(path, x=features.reshape(40, *shape), y=(second > 0).astype(int))


@pytest.fixture
def network(tmp_path: Path) -> dict[str, Path]:
    """A classifier with samples that it gets right, in the form that `to_int8` takes."""
    write_network(tmp_path / "own.onnx")
    write_samples(tmp_path / "own.npz", ignored=1)
    (tmp_path / "own.txt").write_text("low\nhigh\n")
    return {"path": tmp_path / "own.onnx", "labels": tmp_path / "own.txt", "samples": tmp_path / "own.npz"}


def test_a_model_of_ones_own_with_nameless_nodes_is_quantised(network: dict[str, Path], tmp_path: Path) -> None:
    card = to_int8(repository=tmp_path / "models", **network).card
    assert card.quantization is not None
    assert card.quantization.float32_accuracy == 1
    assert card.quantization.calibration_samples == 40
    assert card.evaluation is not None
    assert card.evaluation.metrics == {"accuracy": 1}


def test_a_model_without_a_batch_dimension_is_quantised_and_timed_one_sample_a_run(
    network: dict[str, Path], tmp_path: Path
) -> None:
    write_network(network["path"], rows=1)
    model = onnx.load(network["path"])
    # With the highest of all rows in each, more than one is no option.
    model.graph.node[-1].output[0] = "own"
    model.graph.node.append(helper.make_node("ReduceMax", ["own"], ["highest"], axes=[0]))
    model.graph.node.append(helper.make_node("Add", ["own", "highest"], ["scores"]))
    onnx.save(model, network["path"])
    write_samples(network["samples"], ignored=1, shape=(1, 2))
    card = to_int8(repository=tmp_path / "models", **network).card
    assert card.quantization is not None
    assert list(card.quantization.relative_time) == ["1"]


def test_a_loss_of_more_than_three_tenths_of_a_point_is_refused_and_nothing_is_written(
    pixelserve: Command, network: dict[str, Path], tmp_path: Path
) -> None:
    # One of 256 steps between -100,000 and 100,000 is too coarse for a feature of -1 or 1.
    write_samples(network["samples"], ignored=1e5)
    options = ("--name", "own", "--labels", network["labels"], "--samples", network["samples"])
    ran = pixelserve("export", network["path"], *options, "--precision", "int8", "--to", tmp_path / "models")
    assert ran.exit_code == ParityError.exit_code
    assert (
        "int8 costs 50.00 points of accuracy (100.00% to 50.00%), more than the accepted 0.3; nothing was written"
        in ran.err
    )
    assert not (tmp_path / "models").exists()
    assert pixelserve("export", network["path"], *options, "--to", tmp_path / "models").exit_code == 0


@pytest.mark.parametrize(("before", "after", "refused"), [(0.9, 0.897, False), (0.9, 0.8969, True), (0.9, 0.95, False)])
def test_exactly_three_tenths_of_a_point_are_accepted(before: float, after: float, refused: bool) -> None:
    if refused:
        with pytest.raises(ParityError, match=r"int8 costs 0\.31 points"):
            precision._check_loss("int8", before, after)
    else:
        precision._check_loss("int8", before, after)


def test_without_labelled_samples_its_cost_cannot_be_measured(network: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give x and y with --samples FILE\.npz"):
        to_int8(repository=tmp_path / "models", **(network | {"samples": None}))
    np.savez(network["samples"], x=np.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"give x and y with --samples FILE\.npz"):
        to_int8(repository=tmp_path / "models", **network)
    with pytest.raises(UsageError, match="int8 is for classifiers"):
        to_int8(repository=tmp_path / "models", **(network | {"labels": None}))
    assert not (tmp_path / "models").exists()


def test_labels_that_are_not_the_models_are_refused(network: dict[str, Path], tmp_path: Path) -> None:
    np.savez(network["samples"], x=np.zeros((4, 2)), y=np.full(4, 2))
    with pytest.raises(SamplesError, match="a sample's label is 2; expected 0 to 1"):
        to_int8(repository=tmp_path / "models", **network)


def test_a_model_of_one_layer_has_nothing_to_quantise(own_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    np.savez(tmp_path / "samples.npz", x=np.zeros((3, 6, 6, 1)), y=np.arange(3))
    with pytest.raises(UsageError, match="nothing to quantise: only the last layer has weights"):
        to_int8(own_onnx, tmp_path / "models", labels=tmp_path / "labels.txt", samples=tmp_path / "samples.npz")
    assert not (tmp_path / "models").exists()


def test_what_the_quantiser_cannot_do_is_one_sentence(
    network: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such operator\nin a graph")

    monkeypatch.setattr(quantize, "_quantize", fail)
    with pytest.raises(SourceError, match="ONNX Runtime cannot quantise it: no such operator; omit --precision"):
        to_int8(repository=tmp_path / "models", **network)


def test_calibration_takes_five_hundred_samples_from_all_over_in_a_fixed_order() -> None:
    inputs = {"x": np.arange(6000)}
    chosen, again = (Calibration.choose(inputs, "train").inputs["x"] for _ in range(2))
    np.testing.assert_array_equal(chosen, again)
    assert len(set(chosen)) == CALIBRATION_SAMPLES == 500
    # Sorted by label, ten labels of 600 samples: each has its share.
    assert np.bincount(chosen // 600).min() > 25
    assert Calibration.choose({"x": np.arange(3)}, "samples").count == 3


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_run_is_calibrated_on_its_training_images_and_measured_on_held_out_ones(
    run_folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of one step on noise is right or wrong by accident.
    monkeypatch.setattr(precision, "_MOST_LOSS", 1.0)
    card: Card = export_run(run_folder, Target(tmp_path, precision="int8"), data_dir=data_dir).card
    assert card.quantization is not None
    # Of 64, without the 11 that it is measured on.
    assert (card.quantization.calibration_split, card.quantization.calibration_samples) == ("train", 53)
    assert card.quantization.original.framework == "keras"
    assert card.evaluation is not None
    assert (card.evaluation.split, card.evaluation.samples) == ("validation", 11)
    assert card.quantization.compared_split == "validation"


def test_an_int8_version_may_follow_a_float32_one(cnn: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(CNN, tmp_path / "own")
    exported = to_int8(CNN / "1" / "model.onnx", tmp_path, labels=CNN / "labels.txt", samples=digits)
    assert exported.slot.version == 2
