from pathlib import Path

import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from typer.testing import CliRunner

from pixelserve.cli import app
from pixelserve.oip import model_config_pb2 as pb
from pixelserve_training.errors import UsageError
from pixelserve_training.exporting import config
from pixelserve_training.exporting.config import check_agrees, check_batches, render
from pixelserve_training.runtime import OnnxModel

LABELS = ("cat", "dog", "owl")
EDITED = """
# An owner's edits: comments, list syntax, other settings, other order.
max_batch_size: 8, name: 'own' backend: "onnxruntime"
output [ { dims: 3  data_type: TYPE_FP32; name: "scores" label_filename: "labels.txt" } ]
input [
  { name: "pixels", data_type: TYPE_FP32, dims: [ 6, -1, 1 ], dims: [ 1 ] }
]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


@pytest.fixture
def model(own_onnx: Path) -> OnnxModel:
    return OnnxModel(own_onnx.read_bytes(), source="own.onnx")


@pytest.fixture
def fixed() -> OnnxModel:
    """A model whose every dimension is fixed."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "fixed", tensors[:1], tensors[1:])
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return OnnxModel(content, source="fixed.onnx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / config.LABELS_FILE).write_text("cat\ndog\nowl\n")
    return tmp_path / config.CONFIG_FILE


def test_a_rendered_configuration_agrees_with_its_model(model: OnnxModel, path: Path) -> None:
    path.write_text(render("own", model, labelled="scores"))
    check_agrees(path, model, LABELS)


@pytest.mark.parametrize(
    ("dims", "written"),
    [
        pytest.param(["N", 28, 28, 1], "FORMAT_NHWC", id="channels last"),
        pytest.param(["N", 3, 224, 224], "FORMAT_NCHW", id="channels first"),
        pytest.param(["N", "height", "width", 3], "FORMAT_NHWC", id="any size"),
        pytest.param(["N", 100, 6, 1], "FORMAT_NONE", id="a signal"),
        pytest.param(["N", 28, 28], "FORMAT_NONE", id="no channels"),
        pytest.param(["N", 28, 28, 10], "FORMAT_NONE", id="ten channels"),
    ],
)
def test_an_export_says_where_a_pictures_channels_are(dims: list[int | str], written: str) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    text = render("own", OnnxModel(content, source="own.onnx"), labelled=None)
    parsed = text_format.Parse(text, pb.ModelConfig())
    assert pb.ModelInput.Format.Name(parsed.input[0].format) == written


@pytest.mark.parametrize(
    "name", ['{"1": "one\\two"}', "it's", "two\nlines", "back\\slash", "größe", "tab\there", 'a"', "#"]
)
def test_a_tensor_may_be_called_anything(path: Path, name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], [name])],
        "anything",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])],
    )
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    model = OnnxModel(content, source="anything.onnx")
    path.write_text(render("own", model, labelled=None), encoding="utf-8")
    assert text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig()).output[0].name == name
    check_agrees(path, model, ())


def test_edits_that_do_not_concern_the_tensors_agree(model: OnnxModel, path: Path) -> None:
    path.write_text(EDITED.replace("[ 6, -1, 1 ], dims: [ 1 ]", "[ 6, -1 ], dims: [ 1 ]"))
    check_agrees(path, model, LABELS)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"pixels"', '"image"'), ("TYPE_FP32\n", "TYPE_UINT8\n"), ("[6, 6, 1]", "[6, 7, 1]"), ("[3]", "[4]")],
)
def test_another_name_type_or_shape_disagrees(model: OnnxModel, path: Path, old: str, new: str) -> None:
    text = render("own", model, labelled="scores")
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match="export under another --name"):
        check_agrees(path, model, LABELS)


def test_other_labels_disagree(model: OnnxModel, path: Path) -> None:
    path.write_text(render("own", model, labelled="scores"))
    with pytest.raises(UsageError, match="labels are cat, dog, owl, the new version's are cat, dog, bat"):
        check_agrees(path, model, ("cat", "dog", "bat"))


@pytest.mark.parametrize(
    "text", ["input {", "input { name: }", "name: %", "input: 3", "max_batch_size: many", "[", "}"]
)
def test_a_broken_configuration_is_named(model: OnnxModel, path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match="correct it first"):
        check_agrees(path, model, LABELS)


@pytest.mark.parametrize(("wanted", "written"), [(None, 64), (1, 1), (4, 4), (64, 64), (500, 500)])
def test_the_largest_batch_is_64_unless_another_is_asked_for(
    model: OnnxModel, path: Path, wanted: int | None, written: int
) -> None:
    check_batches(model, wanted)
    path.write_text(render("own", model, labelled="scores", max_batch_size=wanted))
    assert text_format.Parse(path.read_text(), pb.ModelConfig()).max_batch_size == written
    check_agrees(path, model, LABELS, wanted)
    check_agrees(path, model, LABELS)


def test_another_largest_batch_than_that_of_the_other_versions_disagrees(model: OnnxModel, path: Path) -> None:
    path.write_text(render("own", model, labelled="scores", max_batch_size=4))
    with pytest.raises(UsageError, match=r"config\.pbtxt: max_batch_size is 4, not 8; .* another --name"):
        check_agrees(path, model, LABELS, 8)


def test_a_model_without_a_batch_dimension_has_no_largest_batch(fixed: OnnxModel) -> None:
    check_batches(fixed, None)
    assert text_format.Parse(render("own", fixed, labelled=None), pb.ModelConfig()).max_batch_size == 0
    with pytest.raises(UsageError, match=r"--max-batch-size 4: the model has no batch dimension"):
        check_batches(fixed, 4)


def test_an_export_writes_the_largest_batch_that_was_asked_for(own_onnx: Path, tmp_path: Path) -> None:
    options = ["--name", "own", "--to", str(tmp_path / "models"), "--labels", str(tmp_path / "labels.txt")]
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    done = CliRunner().invoke(app, ["export", str(own_onnx), *options, "--max-batch-size", "4"])
    assert done.exit_code == 0, done.output
    assert "max_batch_size: 4\n" in (tmp_path / "models" / "own" / "config.pbtxt").read_text()
    again = CliRunner().invoke(app, ["export", str(own_onnx), *options, "--max-batch-size", "8"])
    assert (again.exit_code, isinstance(again.exception, UsageError)) == (1, True)
    assert not (tmp_path / "models" / "own" / "2").exists()
