"""Models newer than the runtime: the user's message, and export's remedy."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper

from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError
from pixelserve_training.errors import SourceError
from pixelserve_training.exporting.export import Target, export_file
from pixelserve_training.runtime import OnnxModel


@pytest.fixture
def model() -> ModelProto:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", tensors[:1], tensors[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def served(path: Path) -> str:
    """Returns the server's error for a refused file."""
    with pytest.raises(RepositoryError) as raised:
        Session(path, SessionOptions(device="cpu", intra_op_threads=1))
    return str(raised.value)


def test_an_opset_that_the_runtime_does_not_know_is_named_with_the_newest_that_it_does(
    model: ModelProto, tmp_path: Path
) -> None:
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SourceError) as raised:
        OnnxModel((tmp_path / "model.onnx").read_bytes(), source="model.onnx")
    for said in (str(raised.value), served(tmp_path / "model.onnx")):
        found = re.search(
            r"cannot load it: it has opset 99 of ai\.onnx, and this ONNX Runtime takes up to (\d+); .*"
            r"opset_version=\1\), or install a newer onnxruntime$",
            said,
        )
        assert found is not None, said
        model.opset_import[0].version = int(found[1])
        ort.InferenceSession(model.SerializeToString())


def test_an_ir_version_that_the_runtime_does_not_know_is_named_and_lowered_on_export(
    model: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.ir_version = 99
    onnx.save(model, tmp_path / "model.onnx")
    assert "it has ONNX's IR version 99, and this ONNX Runtime takes up to" in served(tmp_path / "model.onnx")
    # As if a later package onnx had written the file, and was installed here.
    monkeypatch.setattr(onnx, "IR_VERSION", 99)
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: None)
    target = Target(tmp_path / "models", "relu")
    exported = export_file(tmp_path / "model.onnx", target, labels=None, samples=None, pixel_scale=None)
    made = OnnxModel((exported.slot.folder / "model.onnx").read_bytes(), source="exported")
    np.testing.assert_array_equal(made.run_once({"x": np.array([[-1, 2]], np.float32)})["y"], [[0, 2]])
