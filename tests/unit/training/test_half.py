"""`pixelserve export --precision float16`: a float16 version, compared with the original and with float32."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import read_card, verify_model_file
from pixelserve.golden import read_golden, replay
from pixelserve_training.datasets import idx
from pixelserve_training.errors import ParityError, UsageError
from pixelserve_training.exporting import half, precision
from pixelserve_training.exporting.export import Exported, Target, export_file, export_run
from pixelserve_training.running import fit
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
CNN = ROOT / "models" / "mnist-cnn"
MNIST = ROOT / "tests" / "data" / "mnist"
# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
# Loading ONNX Runtime's tools takes a second.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(_KERAS_WARNING),
    pytest.mark.usefixtures("short_timing"),
]


def to_float16(path: Path, repository: Path, **options: Any) -> Exported:
    given = {"labels": None, "samples": None, "pixel_scale": None} | options
    return export_file(path, Target(repository, "own", precision="float16"), **given)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred real digits with their labels."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    images = idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)[:300, ..., np.newaxis]
    np.savez(path, x=images, y=idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)[:300])
    return path


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The version folder of mnist-cnn in float16."""
    repository = tmp_path_factory.mktemp("models")
    exported = to_float16(CNN / "1" / "model.onnx", repository, labels=CNN / "labels.txt", samples=digits)
    return exported.slot.folder


def loaded(folder: Path) -> OnnxModel:
    return OnnxModel((folder / "model.onnx").read_bytes(), source="model.onnx")


def test_inputs_and_outputs_keep_their_types_and_the_weights_are_halves(cnn: Path) -> None:
    original = loaded(CNN / "1")
    assert (loaded(cnn).inputs, loaded(cnn).outputs) == (original.inputs, original.outputs)
    model = onnx.load(cnn / "model.onnx")
    onnx.checker.check_model(model)
    floats = [each for each in model.graph.initializer if each.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    assert {tensor.data_type for tensor in floats} == {TensorProto.FLOAT16}
    assert (cnn / "model.onnx").stat().st_size < 0.55 * (CNN / "1" / "model.onnx").stat().st_size


def test_golden_outputs_are_the_originals_within_the_tolerance_of_float16(cnn: Path) -> None:
    card, golden = read_card(cnn / "card.json"), read_golden(cnn / "golden.npz")
    verify_model_file(card, cnn / "model.onnx")
    assert [(entry.precision, entry.tolerance) for entry in card.parity] == [("float16", 1e-2), ("float16", 4e-2)]
    original = loaded(CNN / "1").run(golden.inputs)["probabilities"]
    np.testing.assert_array_equal(golden.outputs["probabilities"], original)
    assert 0 < replay(golden, loaded(cnn).run, card.tolerance("CPUExecutionProvider")) <= 1e-2


def test_the_card_says_what_float16_costs(cnn: Path, digits: Path) -> None:
    card = read_card(cnn / "card.json")
    found = card.quantization
    assert found is not None
    assert (found.precision, found.calibration_split, found.calibration_samples) == ("float16", "samples", 300)
    images, labels = np.load(digits)["x"], np.load(digits)["y"]
    was, now = (loaded(folder).run({"image": images})["probabilities"] for folder in (CNN / "1", cnn))
    assert found.float32_accuracy == (was.argmax(axis=1) == labels).mean()
    assert found.changed_labels == (was.argmax(axis=1) != now.argmax(axis=1)).sum()
    assert found.max_abs_error == pytest.approx(np.abs(was - now).max())
    assert card.evaluation is not None
    assert card.evaluation.metrics["accuracy"] == (now.argmax(axis=1) == labels).mean()


def test_a_run_is_compared_with_keras_and_checked_on_training_images(
    run_folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    card = export_run(run_folder, Target(tmp_path, precision="float16"), data_dir=data_dir).card
    assert card.quantization is not None
    assert (card.quantization.calibration_split, card.quantization.calibration_samples) == ("train", 53)
    assert card.reference is not None
    assert card.reference.framework == "keras"
    assert card.parity[0].max_abs_error is not None
    assert 1e-6 < card.parity[0].max_abs_error <= 1e-2


def test_a_regression_has_the_tolerance_of_float16_relative_to_its_targets(tmp_path: Path) -> None:
    fit.train("blood-fat", data_dir=None, run_dir=tmp_path / "run", overrides={"epochs": 1})
    card = export_run(tmp_path / "run", Target(tmp_path / "models", precision="float16"), data_dir=None).card
    assert card.quantization is None
    assert card.parity[0].tolerance > 1
    assert card.parity[0].max_abs_error is not None


def test_the_command_prints_what_float16_costs(pixelserve: Command, digits: Path, tmp_path: Path) -> None:
    options = ("--name", "own", "--labels", CNN / "labels.txt", "--samples", digits, "--precision", "float16")
    ran = pixelserve("export", CNN / "1" / "model.onnx", *options, "--to", tmp_path)
    assert ran.exit_code == 0, ran.err
    assert "float16, against float32: accuracy 100.00% instead of 100.00%, 0 labels changed, 0.5" in ran.out
    found = json.loads(pixelserve("export", CNN / "1" / "model.onnx", *options, "--to", tmp_path, "--json").out)
    assert found["quantization"]["precision"] == "float16"


def write_layer(path: Path, *, weight: float = 1.0, after: float = 1.0) -> Path:
    """Writes `x` [N, 2] -> `scores` [N, 2]: multiplied by `weight`, then by `after`, then a softmax."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(np.eye(2, dtype=np.float32) * np.float32(weight), "weights"),
            numpy_helper.from_array(np.eye(2, dtype=np.float32) * np.float32(after), "second"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "own.txt").write_text("low\nhigh\n")
    x = np.random.default_rng(0).random((20, 2))
    np.savez(tmp_path / "own.npz", x=x, y=x.argmax(axis=1))
    return {"labels": tmp_path / "own.txt", "samples": tmp_path / "own.npz"}


def test_weights_that_float16_cannot_hold_are_refused_and_nothing_is_written(
    given: dict[str, Path], tmp_path: Path
) -> None:
    path = write_layer(tmp_path / "own.onnx", weight=1e-4, after=70_000)
    with pytest.raises(ParityError, match=r"the weights second reach 70,000, and float16 holds at most 65,504"):
        to_float16(path, tmp_path / "models", **given)
    assert not (tmp_path / "models").exists()


def test_a_layer_that_overflows_is_named_even_if_the_next_one_hides_it(given: dict[str, Path], tmp_path: Path) -> None:
    # The outputs of float32 are well within the tolerance of any precision: 65,504 stays finite after the next layer.
    path = write_layer(tmp_path / "own.onnx", weight=60_000, after=1e-4)
    x = np.random.default_rng(0).random((20, 2)) + 1
    np.savez(given["samples"], x=x, y=x.argmax(axis=1))
    with pytest.raises(ParityError, match=r"the layer output hidden reaches 1\d\d,\d\d\d in the samples, and float16"):
        to_float16(path, tmp_path / "models", **given)
    assert not (tmp_path / "models").exists()


def test_without_labels_the_outputs_are_compared_but_no_accuracy(given: dict[str, Path], tmp_path: Path) -> None:
    path = write_layer(tmp_path / "own.onnx")
    card = to_float16(path, tmp_path / "models", samples=given["samples"]).card
    assert (card.quantization, card.evaluation) == (None, None)
    assert card.parity[0].precision == "float16"
    assert card.parity[0].max_abs_error is not None


def test_without_samples_and_for_halves_it_is_refused(given: dict[str, Path], tmp_path: Path) -> None:
    path = write_layer(tmp_path / "own.onnx")
    with pytest.raises(UsageError, match=r"--precision float16 needs inputs"):
        to_float16(path, tmp_path / "models", labels=given["labels"])
    (tmp_path / "half.onnx").write_bytes(half._convert(onnx.load(path)))
    with pytest.raises(UsageError, match="--precision float16 is for float32 models"):
        to_float16(tmp_path / "half.onnx", tmp_path / "models", **given)


def test_a_loss_of_accuracy_is_refused(given: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_MOST_LOSS", -0.5)
    with pytest.raises(ParityError, match=r"float16 costs 0\.00 points of accuracy .*: omit --precision$"):
        to_float16(write_layer(tmp_path / "own.onnx"), tmp_path / "models", **given)
