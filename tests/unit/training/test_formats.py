"""Files that cannot be exported: each is identified, with a way to one that can."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from pixelserve_training.errors import SourceError
from pixelserve_training.exporting.export import Target, export_file


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as raised:
        export_file(path, Target(path.parent / "models", "own"), labels=None, samples=None, pixel_scale=None)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not (path.parent / "models").exists()
    return message


def model(**changes: Any) -> ModelProto:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", tensors[:1], tensors[1:])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", changes.pop("opset", 17))])
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.pt", "torch.onnx.export"),
        ("model.PTH", "torch.onnx.export"),
        ("model.safetensors", "optimum-cli export onnx"),
        ("model.pkl", "skl2onnx.to_onnx"),
        ("model.joblib", "never loaded because that runs code"),
        ("model.tflite", "tf2onnx.convert --tflite"),
        ("graph.pb", "tf2onnx.convert --graphdef"),
        ("model.engine", "a TensorRT engine"),
        ("model.zip", "an archive; unpack it"),
        ("model.ort", "ONNX Runtime's own format"),
    ],
)
def test_a_model_of_another_library_comes_with_the_way_to_onnx(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    assert said in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["model.onnx", "model"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n", "git lfs pull"),
        (b"\x1c\0\0\0TFL3", "tf2onnx.convert --tflite"),
        (b"\x89HDF\r\n\x1a\n", "rename it to end in .h5"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x80\x04\x95pickled", "never loaded"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_a_file_is_known_by_its_content_whatever_its_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path / name)


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    content = model().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    assert f"cut short after {len(content) // 2} bytes; copy or export it again" in refused(tmp_path / "m.onnx")


def test_a_suffix_in_capitals_is_one_all_the_same(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "M.ONNX", format="protobuf")
    target = Target(tmp_path / "models", "own")
    export_file(tmp_path / "M.ONNX", target, labels=None, samples=None, pixel_scale=None)
    assert (tmp_path / "models" / "own" / "1" / "model.onnx").is_file()


@pytest.mark.parametrize("changes", [{"opset": 999}, {"ir_version": 99}], ids=["opset", "IR version"])
def test_a_model_of_a_later_onnx_is_named_with_what_is_known(tmp_path: Path, changes: dict[str, int]) -> None:
    onnx.save(model(**changes), tmp_path / "m.onnx")
    message = refused(tmp_path / "m.onnx")
    assert f"({onnx.defs.onnx_opset_version()} and {onnx.IR_VERSION}, by onnx {onnx.__version__})" in message
    assert "export it with a lower opset" in message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["weights.onnx"], "give the model in it: {folder}/weights.onnx"),
        (["config.pbtxt", "1/model.onnx"], "pixelserve serve --model-repository {parent}"),
        (["config.json", "model.safetensors"], "optimum-cli export onnx --model {folder} OUT"),
        (["notes.txt"], "expected a run's folder, a .keras, .h5 or .onnx file"),
    ],
    ids=["one model", "a repository's", "transformers", "no model"],
)
def test_a_folder_comes_with_what_to_give_instead(tmp_path: Path, files: list[str], said: str) -> None:
    folder = tmp_path / "given"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"anything")
    assert said.format(folder=folder, parent=tmp_path) in refused(folder)
