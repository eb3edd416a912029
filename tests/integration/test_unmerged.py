"""Requests that must not be merged are not, and the reason is visible to operators and clients."""

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from pixelserve.cli import app
from pixelserve.client import Client
from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 30


def write_survivors(folder: Path) -> None:
    """Writes a model that gives the numbers above 0: as many rows as it takes, as long as all are."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["is_kept"]),
        helper.make_node("Compress", ["x", "is_kept"], ["y"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "survivors",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M"])],
        [numpy_helper.from_array(np.float32(0), "zero")],
    )
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")
    # Two requests of one row fill a batch, and wait for each other.
    batching = "dynamic_batching { max_queue_delay_microseconds: 20000000 }"
    (folder / "config.pbtxt").write_text(f"max_batch_size: 2 {batching}")


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, graph_writer: Callable[..., Path], model_writer: Callable[..., Path]
) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    tensor = ("FLOAT", ["N", 4])
    model_writer(folder / "doubler" / "1" / "model.onnx")
    graph_writer(folder / "mixing" / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Softmax", "x", "y"), axis=0)
    # Takes pairs of rows.
    pairs = {"y": ("FLOAT", ["M", 4])}
    graph_writer(folder / "pairs" / "1" / "model.onnx", {"x": tensor}, pairs, ("Split", "x", "y z"), axis=0)
    write_survivors(folder / "survivors")
    return folder


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    return start_module_server(repository)


def states(server: Any) -> dict[str, str]:
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    rows = [sample.labels for family in families for sample in family.samples if sample.name == "pixelserve_rows"]
    return {labels["model"]: labels["state"] for labels in rows}


def warnings(server: Any) -> dict[str, str]:
    told = [event for event in server.events() if event.get("event") == "requests are not merged"]
    return {str(event["model"]): str(event["reason"]) for event in told}


MIXING = (
    "output y of a row differs by ",
    "; requests are not merged; export the model in inference mode, with the batch as the first axis of every input "
    "and output",
)


def test_what_keeps_requests_apart_is_said_everywhere(server: Any) -> None:
    metadata = server.stub().ModelMetadata(pb.ModelMetadataRequest(name="mixing"), timeout=TIMEOUT_S).properties
    assert metadata["rows"] == "dependent"
    assert metadata["unmerged"].startswith(MIXING[0])
    assert metadata["unmerged"].endswith(MIXING[1])
    config = server.stub().ModelConfig(pb.ModelConfigRequest(name="mixing"), timeout=TIMEOUT_S).config
    assert not config.HasField("dynamic_batching")
    assert config.parameters["pixelserve_unmerged"].string_value == metadata["unmerged"]
    with Client(server.grpc) as client:
        (shown,) = client.models("mixing")
    assert shown.unmerged == metadata["unmerged"]
    assert warnings(server)["mixing"] == metadata["unmerged"]
    assert "made-up values" in warnings(server)["pairs"]
    assert {name: states(server)[name] for name in ("doubler", "mixing", "pairs")} == {
        "doubler": "independent",
        "mixing": "dependent",
        "pairs": "unproven",
    }


def test_nothing_is_said_of_a_model_whose_rows_are_independent(server: Any) -> None:
    metadata = server.stub().ModelMetadata(pb.ModelMetadataRequest(name="doubler"), timeout=TIMEOUT_S).properties
    assert (metadata["rows"], "unmerged" in metadata) == ("independent", False)
    config = server.stub().ModelConfig(pb.ModelConfigRequest(name="doubler"), timeout=TIMEOUT_S).config
    assert config.HasField("dynamic_batching")
    assert "doubler" not in warnings(server)


def survivors_of(value: float) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="survivors", raw_input_contents=[np.float32(value).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1])
    return request


def test_a_run_that_cannot_be_taken_apart_ends_merging_and_loses_no_answer(
    start_server: Callable[..., Any], repository: Path, eventually: Callable[..., None]
) -> None:
    """1. Two requests fill a batch that gives one row. 2. Each is computed by itself. 3. From then on a request waits
    for no other, and the log and the metrics say so."""
    server = start_server(repository)
    assert states(server)["survivors"] == "independent"
    infer = server.stub().ModelInfer
    calls = [infer.future(survivors_of(value), timeout=TIMEOUT_S) for value in (3, -1)]
    shapes = [list(call.result().outputs[0].shape) for call in calls]
    assert shapes == [[1], [0]]
    assert list(infer(survivors_of(-2), timeout=TIMEOUT_S).outputs[0].shape) == [0]
    assert states(server)["survivors"] == "dependent"
    eventually(lambda: "survivors" in warnings(server))
    assert warnings(server)["survivors"].startswith(
        "output y has shape [1] for a batch of 2 rows; requests are not merged"
    )


def test_doctor_warns_and_the_command_shows_it(repository: Path, server: Any, run_command: Callable[..., str]) -> None:
    found = run_command("doctor", str(repository))
    assert f"{repository / 'mixing' / '1'}: warning: output y of a row differs by " in found
    assert "mixing version 1: would serve" in found
    assert "not merged" in run_command("models", "show", "mixing", "--address", server.grpc)
    assert "not merged" not in run_command("models", "show", "doubler", "--address", server.grpc)


@pytest.fixture
def run_command() -> Callable[..., str]:
    """Runs a pixelserve command that must succeed, and returns its output."""

    def run(*arguments: str) -> str:
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    return run
