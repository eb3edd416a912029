from pathlib import Path

import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_training.errors import UsageError
from pixelserve_training.exporting import config
from pixelserve_training.exporting.config import check_agrees, render
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
def path(tmp_path: Path) -> Path:
    (tmp_path / config.LABELS_FILE).write_text("cat\ndog\nowl\n")
    return tmp_path / config.CONFIG_FILE


def test_a_rendered_configuration_agrees_with_its_model(model: OnnxModel, path: Path) -> None:
    path.write_text(render("own", model, labelled="scores"))
    check_agrees(path, model, LABELS)


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
