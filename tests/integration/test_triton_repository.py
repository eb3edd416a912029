"""A repository written for Triton is served unchanged."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

# Each starts a process.
pytestmark = pytest.mark.slow

DIGITS = """
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 32
input [
  {
    name: "image"
    data_type: TYPE_UINT8
    format: FORMAT_NHWC
    dims: [ 28, 28, 1 ]
  }
]
output [
  {
    name: "probabilities"
    data_type: TYPE_FP32
    dims: [ 10 ]
    label_filename: "digit_labels.txt"
  }
]
instance_group [
  {
    count: 1
    kind: KIND_CPU
  }
]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
}
optimization {
  graph { level: 1 }
  execution_accelerators {
    cpu_execution_accelerator : [ { name : "openvino" } ]
  }
}
version_policy: { latest: { num_versions: 1 } }
model_warmup [
  {
    name: "zeros"
    batch_size: 1
    inputs: {
      key: "image"
      value: { data_type: TYPE_UINT8 dims: [ 28, 28, 1 ] zero_data: true }
    }
  }
]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
"""
DIGITS_IGNORED = [
    "optimization.graph",
    "optimization.execution_accelerators",
    "parameters.intra_op_thread_count",
]

DOUBLER = """
name: "doubler"
backend: "onnxruntime"
default_model_filename: "doubler.onnx"
max_batch_size: 8
input { name: "values", data_type: TYPE_FP32, dims: [ -1 ] }
output { name: "doubled", data_type: TYPE_FP32, dims: [ 4 ] }
version_policy { specific { versions: [ 1, 3 ] } }
instance_group { count: 2 }
response_cache { enable: true }
metric_tags { key: "team" value: "vision" }
"""
DOUBLER_IGNORED = ["metric_tags", "response_cache.enable"]


DENSENET = """
name: "densenet_onnx"
platform: "onnxruntime_onnx"
max_batch_size : 0
input [
  {
    name: "data_0"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 4, 4 ]
    reshape { shape: [ 1, 3, 4, 4 ] }
  }
]
output [
  {
    name: "fc6_1"
    data_type: TYPE_FP32
    dims: [ 3 ]
    reshape { shape: [ 1, 3, 1, 1 ] }
    label_filename: "densenet_labels.txt"
  }
]
"""


@pytest.fixture
def repository(tmp_path: Path, root: Path, model_writer: Callable[..., Path]) -> Path:
    """Two models with configurations as people write them for Triton, and what lies about beside them."""
    path = tmp_path / "model_repository"
    (path / "digits" / "1").mkdir(parents=True)
    shutil.copy(root / "models" / "mnist-cnn" / "1" / "model.onnx", path / "digits" / "1")
    (path / "digits" / "config.pbtxt").write_text(DIGITS)
    (path / "digits" / "digit_labels.txt").write_text("\n".join(f"digit {number}" for number in range(10)))
    for version in (1, 2, 3):
        model_writer(path / "doubler" / str(version) / "doubler.onnx")
    (path / "doubler" / "config.pbtxt").write_text(DOUBLER)
    (path / "README.md").write_text("Our models.")
    return path


def write_densenet(folder: Path, graph_writer: Callable[..., Path], config: str) -> None:
    """Writes a model with the shapes of the quickstart's, in small: the mean of each of three channels."""
    picture, means = ("FLOAT", [1, 3, 4, 4]), ("FLOAT", [1, 3, 1, 1])
    node = ("GlobalAveragePool", "data_0", "fc6_1")
    graph_writer(folder / "1" / "model.onnx", {"data_0": picture}, {"fc6_1": means}, node)
    (folder / "config.pbtxt").write_text(config)
    (folder / "densenet_labels.txt").write_text("red\r\ngreen\r\nblue\r\n\r\n")


def test_the_quickstarts_densenet_is_served_with_the_shapes_that_its_clients_send(
    tmp_path: Path,
    graph_writer: Callable[..., Path],
    start_server: Callable[..., Any],
    make_request: Callable[..., pb.ModelInferRequest],
    make_tensor: Callable[..., Any],
    call_http: Callable[..., Any],
) -> None:
    write_densenet(tmp_path / "densenet_onnx", graph_writer, DENSENET)
    server = start_server(tmp_path)
    stub = server.stub()
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="densenet_onnx"))
    assert [list(each.shape) for each in (*metadata.inputs, *metadata.outputs)] == [[3, 4, 4], [3]]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="densenet_onnx")).config
    assert list(config.input[0].dims) == [3, 4, 4]
    assert list(config.input[0].reshape.shape) == [1, 3, 4, 4]
    pixels = np.repeat(np.array([1, 3, 2], np.float32), 16).reshape(3, 4, 4)
    request = make_request(
        "densenet_onnx", inputs=[make_tensor("data_0", "FP32", pixels.shape)], raw=[pixels.tobytes()]
    )
    (output,) = stub.ModelInfer(request).outputs
    assert list(output.shape) == [3]
    request.outputs.add(name="fc6_1").parameters["classification"].int64_param = 2
    answer = stub.ModelInfer(request)
    assert list(answer.outputs[0].shape) == [2]
    assert answer.raw_output_contents[0].endswith(b"2.000000:2:blue")
    sent = {"name": "data_0", "datatype": "FP32", "shape": [3, 4, 4], "data": pixels.ravel().tolist()}
    answer = call_http(server, "/v2/models/densenet_onnx/infer", {"inputs": [sent]}).json
    assert answer["outputs"][0] == {"name": "fc6_1", "datatype": "FP32", "shape": [3], "data": [1, 3, 2]}


def test_what_doctor_proposes_for_the_quickstarts_densenet_is_accepted(
    tmp_path: Path, graph_writer: Callable[..., Path], start_server: Callable[..., Any]
) -> None:
    """Without the reshapes, the dims are not the graph's."""
    plain = re.sub(r"reshape \{.*\}", "", DENSENET)
    write_densenet(tmp_path / "densenet_onnx", graph_writer, plain)

    def diagnose() -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "pixelserve", "doctor", str(tmp_path), "--json"]
        findings = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)["findings"]
        return [each for each in findings if each["severity"] == "error"]

    lines = plain.split("\n")
    for finding in diagnose():
        lines[finding["line"] - 1] = finding["write"]
    (tmp_path / "densenet_onnx" / "config.pbtxt").write_text("\n".join(lines))
    assert diagnose() == []
    assert start_server(tmp_path).fields["models"] == ["densenet_onnx/1"]


def test_a_triton_repository_is_served_unchanged(
    repository: Path,
    root: Path,
    start_server: Callable[..., Any],
    make_request: Callable[..., pb.ModelInferRequest],
    make_tensor: Callable[..., Any],
) -> None:
    server = start_server(repository)
    assert server.fields["models"] == ["digits/1", "doubler/1", "doubler/3"]
    stub = server.stub()

    pixels = np.load(root / "examples" / "mnist" / "digit-7.npy")
    best = pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")
    best.parameters["classification"].int64_param = 1
    request = make_request(
        "digits", inputs=[make_tensor("image", "UINT8", pixels.shape)], raw=[pixels.tobytes()], outputs=[best]
    )
    assert stub.ModelInfer(request).raw_output_contents[0].endswith(b":7:digit 7")

    doubled = stub.ModelInfer(make_request("doubler", rows=2))
    assert doubled.model_version == "3"
    np.testing.assert_array_equal(np.frombuffer(doubled.raw_output_contents[0], np.float32), np.arange(8) * 2)
    assert stub.ModelInfer(make_request("doubler", model_version="1")).model_version == "1"

    server.stop()
    warnings = [(event["model"], event["reason"]) for event in server.events() if event["event"] == "not as asked"]
    assert warnings == [
        ("digits", f"config.pbtxt: not served, ignored: {', '.join(DIGITS_IGNORED)}"),
        ("doubler", f"config.pbtxt: not served, ignored: {', '.join(DOUBLER_IGNORED)}"),
    ]
