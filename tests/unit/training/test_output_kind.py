"""An export finds a classifier's output kind, writes it, and measures the served values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.scores import OutputKind
from pixelserve_training.errors import ParityError, SourceError, UsageError
from pixelserve_training.exporting import output_kind
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.measuring.remeasure import remeasure

# Keras saves weights in a way that NumPy will not take much longer.
KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)

LABELS = ("cat", "dog")
INPUTS = np.array([[3, 0], [0, 3], [1, -5], [-5, 1], [2, 1]], np.float32)
TARGETS = np.array([0, 1, 0, 1, 1])


def write(path: Path, *nodes: Any, columns: int = 2, weights: np.ndarray | None = None, opset: int = 17) -> Path:
    """Writes a model of `x` float32 [N, 2], from which nodes make `y` float32 [N, columns]; `w` are its weights."""
    given = np.eye(2, columns, dtype=np.float32) if weights is None else weights
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", columns])],
        [numpy_helper.from_array(given, "w"), numpy_helper.from_array(np.zeros(columns, np.float32), "b")],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def linear(output: str = "y") -> Any:
    return helper.make_node("MatMul", ["x", "w"], [output])


def then(*operators: str, **attributes: Any) -> list[Any]:
    """A linear layer, and what comes behind it, one after another; attributes are the first one's."""
    names = ["l", *(f"t{number}" for number in range(len(operators) - 1)), "y"]
    nodes = [linear("l")]
    for number, operator in enumerate(operators):
        extra = attributes if number == 0 else {"to": TensorProto.FLOAT} if operator == "Cast" else {}
        nodes.append(helper.make_node(operator, [names[number]], [names[number + 1]], **extra))
    return nodes


def complement(activation: str) -> list[Any]:
    """1 - p and p, of one unit p."""
    return [
        helper.make_node("MatMul", ["x", "w"], ["l"]),
        helper.make_node(activation, ["l"], ["p"]),
        helper.make_node("Sub", ["b", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["y"], axis=1),
    ]


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        pytest.param(then("Softmax"), "probabilities", id="softmax"),
        pytest.param(then("Softmax", "Identity", "Cast"), "probabilities", id="nodes that change nothing"),
        pytest.param(then("Softmax", axis=0), None, id="softmax over the batch"),
        pytest.param(then("LogSoftmax"), "logits", id="logsoftmax"),
        pytest.param(then("Sigmoid"), "sigmoids", id="sigmoid"),
        pytest.param([linear()], "logits", id="linear"),
        pytest.param([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "logits", id="gemm"),
        pytest.param([linear("l"), helper.make_node("Add", ["l", "b"], ["y"])], "logits", id="a bias of its own"),
        pytest.param([linear("l"), helper.make_node("Add", ["l", "x"], ["y"])], None, id="another sum"),
        pytest.param(then("Relu"), None, id="relu"),
        pytest.param(complement("Sigmoid"), "probabilities", id="both classes of a sigmoid"),
        pytest.param(complement("Tanh"), None, id="both of something else"),
    ],
)
def test_the_last_operation_tells(tmp_path: Path, nodes: list[Any], kind: str | None) -> None:
    content = write(tmp_path / "m.onnx", *nodes).read_bytes()
    found = output_kind.find(content, "y", 2, None)
    assert (found.kind, found.reason.startswith("the graph ends in ")) == (kind, True)


def test_in_old_operator_sets_a_softmax_has_another_axis_by_default(tmp_path: Path) -> None:
    content = write(tmp_path / "m.onnx", *then("Softmax"), opset=11).read_bytes()
    assert output_kind.find(content, "y", 2, None).kind == "probabilities"


@pytest.mark.parametrize(
    ("operators", "values", "kind"),
    [
        pytest.param(["Relu"], [[0.25, 0.75], [1, 0]], "probabilities", id="unknown end, probabilities"),
        pytest.param(["Relu"], [[0.25, 0.8]], None, id="unknown end, other numbers"),
        pytest.param(["Identity"], [[0.25, 0.75]], "probabilities", id="weighted mean of probabilities"),
        pytest.param(["Identity"], [[4.25, -7]], "logits", id="logits"),
        pytest.param(["Softmax"], [[0.25, 0.25]], None, id="a softmax that does not add up"),
        pytest.param(["Sigmoid"], [[0.25, 0.75]], "sigmoids", id="sigmoids that happen to add up"),
    ],
)
def test_the_samples_decide_where_the_graph_does_not(
    tmp_path: Path, operators: list[str], values: list[list[float]], kind: str | None
) -> None:
    content = write(tmp_path / "m.onnx", *then(*operators)).read_bytes()
    assert output_kind.find(content, "y", 2, np.array(values, np.float32)).kind == kind


def export(
    path: Path, *, kind: OutputKind | None = None, samples: bool = True, y: Any = TARGETS, **options: Any
) -> Any:
    folder = path.parent
    (folder / "labels.txt").write_text("cat\ndog\n")
    np.savez(folder / "samples.npz", x=INPUTS, **({} if y is None else {"y": y}))
    given: dict[str, Any] = {"labels": folder / "labels.txt", "pixel_scale": None} | options
    target = Target(folder / "models", "m", output_kind=kind)
    return export_file(path, target, samples=folder / "samples.npz" if samples else None, **given)


def config_of(exported: Exported) -> str:
    return (exported.slot.model_folder / "config.pbtxt").read_text()


@pytest.mark.parametrize("samples", [True, False])
def test_config_and_card_have_the_kind(tmp_path: Path, samples: bool) -> None:
    exported = export(write(tmp_path / "m.onnx", linear()), samples=samples)
    assert exported.card.output_kind == exported.as_json()["output_kind"] == "logits"
    assert 'key: "output_kind"' in config_of(exported)
    assert 'string_value: "logits"' in config_of(exported)


def test_what_is_not_found_is_not_written(tmp_path: Path) -> None:
    exported = export(write(tmp_path / "m.onnx", *then("Relu")))
    assert exported.card.output_kind is None
    assert "output_kind" not in config_of(exported)


@pytest.mark.slow
def test_figures_are_those_of_the_probabilities_that_are_served(tmp_path: Path) -> None:
    (tmp_path / "logits").mkdir()
    (tmp_path / "softmax").mkdir()
    logits = export(write(tmp_path / "logits" / "m.onnx", linear()))
    softmax = export(write(tmp_path / "softmax" / "m.onnx", *then("Softmax")))
    assert (logits.card.output_kind, softmax.card.output_kind) == ("logits", "probabilities")
    # ONNX Runtime's softmax and NumPy's differ in the last bits.
    mine, theirs = (exported.card.calibration.model_dump() for exported in (logits, softmax))
    for bins in zip(mine.pop("reliability"), theirs.pop("reliability"), strict=True):
        assert bins[0] == pytest.approx(bins[1])
    assert mine == pytest.approx(theirs)
    assert logits.card.baseline == softmax.card.baseline
    mine, theirs = (exported.card.evaluation.model_dump() for exported in (logits, softmax))
    for errors in zip(mine.pop("surest_errors"), theirs.pop("surest_errors"), strict=True):
        assert errors[0] == errors[1] | {"probability": pytest.approx(errors[1]["probability"])}
    assert mine == theirs
    found = remeasure(
        str(logits.slot.folder), repository=Path(), data_dir=None, samples=tmp_path / "logits/samples.npz"
    )
    assert found.differences == []
    assert found.figures.calibration is not None


@pytest.mark.parametrize(
    ("nodes", "kind"), [(then("Sigmoid"), "sigmoids"), ([linear()], "logits")], ids=["sigmoid", "logit"]
)
@pytest.mark.slow
def test_one_unit_for_two_labels_is_exported_and_measured(tmp_path: Path, nodes: list[Any], kind: str) -> None:
    weights = np.array([[-1], [1]], np.float32)
    exported = export(write(tmp_path / "m.onnx", *nodes, columns=1, weights=weights))
    assert (exported.card.output_kind, exported.outputs) == (kind, ["y float32 [-1, 1]"])
    # A logit is above 0 for the second class, a probability above a half: the last sample is another than it looks.
    assert exported.accuracy == 0.8
    assert (exported.slot.model_folder / "labels.txt").read_text().split() == list(LABELS)
    found = remeasure(str(exported.slot.folder), repository=Path(), data_dir=None, samples=tmp_path / "samples.npz")
    assert found.confusion is not None
    assert (found.confusion.tolist(), found.differences) == ([[2, 0], [1, 2]], [])


def test_one_decision_value_that_nothing_declares_is_above_0_for_the_second_class(tmp_path: Path) -> None:
    # A hinge loss leaves such values, and a half is no threshold for them.
    weights, targets = np.array([[-0.1], [0.1]], np.float32), np.array([0, 1, 0, 1, 0])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["l"]), helper.make_node("Clip", ["l"], ["y"])]
    # The second sample's is 0.3.
    exported = export(write(tmp_path / "m.onnx", *nodes, columns=1, weights=weights), y=targets)
    assert (exported.card.output_kind, exported.accuracy) == (None, 1)


def test_the_user_has_the_last_word_but_for_what_the_samples_refute(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", linear())
    with pytest.raises(UsageError, match="--output-kind probabilities: y gives 3 for a sample"):
        export(path, kind="probabilities")
    assert not (tmp_path / "models").exists()
    assert export(path, kind="scores").card.output_kind == "scores"


def test_versions_of_a_model_have_one_kind(tmp_path: Path) -> None:
    export(write(tmp_path / "m.onnx", linear()))
    with pytest.raises(UsageError, match="output_kind is logits, the new version gives probabilities"):
        export(write(tmp_path / "m.onnx", *then("Softmax")))
    assert export(write(tmp_path / "m.onnx", linear())).slot.version == 2


@pytest.mark.parametrize("y", [TARGETS, None], ids=["labelled", "not labelled"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path, bad: float, y: Any) -> None:
    path = write(tmp_path / "m.onnx", linear(), weights=np.array([[bad, 0], [0, 1]], np.float32))
    with pytest.raises(ParityError, match=r"y is NaN or infinite for . of 5 samples, first for sample 0"):
        export(path, y=y)
    assert not (tmp_path / "models").exists()


def test_weights_that_are_nan_are_refused_without_samples_too(tmp_path: Path) -> None:
    weights = np.array([[np.nan, 0], [0, 1]], np.float32)
    with pytest.raises(ParityError, match="weights w have NaN"):
        export(write(tmp_path / "m.onnx", linear(), weights=weights), samples=False)


def test_evaluate_refuses_to_measure_nan(tmp_path: Path) -> None:
    # 0 times infinity: only the second of these samples is without a number.
    weights = np.array([[1, 0], [0, 1]], np.float32)
    exported = export(
        write(tmp_path / "m.onnx", helper.make_node("Log", ["x"], ["l"]), then("Softmax")[1], weights=weights),
        samples=False,
    )
    with pytest.raises(SourceError, match=r"is NaN or infinite for . of 5 samples"):
        remeasure(str(exported.slot.folder), repository=Path(), data_dir=None, samples=tmp_path / "samples.npz")


def test_the_command_says_what_it_found(pixelserve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    options = ("--labels", tmp_path / "labels.txt", "--to", tmp_path / "models")
    ran = pixelserve("export", write(tmp_path / "m.onnx", linear()), "--name", "a", *options)
    assert "output kind logits: the graph ends in MatMul" in ran.out
    ran = pixelserve("export", write(tmp_path / "m.onnx", *then("Relu")), "--name", "b", *options)
    assert "output kind not declared: the graph ends in Relu" in ran.out
    assert "--output-kind" in ran.out
    ran = pixelserve("export", tmp_path / "m.onnx", "--name", "c", *options, "--output-kind", "scores", "--json")
    assert json.loads(ran.out)["output_kind"] == "scores"


@pytest.mark.slow
def test_a_keras_model_of_one_sigmoid_gives_both_classes_as_a_recipes_does(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation="sigmoid")])
    model.layers[-1].set_weights([np.array([[-1.0], [1.0]]), np.zeros(1)])
    model.save(tmp_path / "m.keras")
    exported = export(tmp_path / "m.keras")
    assert (exported.outputs, exported.card.output_kind) == (["probabilities float32 [-1, 2]"], "probabilities")
    assert exported.accuracy == 0.8


@pytest.mark.slow
def test_a_keras_model_without_a_softmax_gives_logits(keras: Any, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    assert export(tmp_path / "m.keras").card.output_kind == "logits"
