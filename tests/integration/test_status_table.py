"""The table of statuses in docs/protocol.md: every row of it, over gRPC, with a real server process."""

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

TIMEOUT_S = 60
PATIENT_ROWS = 2
Tensor = pb.ModelInferRequest.InferInputTensor


def tensor(name: str = "values", datatype: str = "FP32", shape: tuple[int, ...] = (1, 4), **fields: Any) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=shape, **fields)


def typed(**contents: list[Any]) -> dict[str, Any]:
    return {"inputs": [tensor(contents=pb.InferTensorContents(**contents))], "raw": []}


TWO = {
    "model": "pair",
    "inputs": [tensor("a", "INT64", (1,)), tensor("b", "FP32", (1, 2))],
    "raw": [bytes(8), bytes(8)],
}
UNKNOWN_OUTPUT = pb.ModelInferRequest.InferRequestedOutputTensor(name="halved")

# What differs from a good request of the doubler, by row and by what of the row it is; the status; what is said.
REQUESTS: dict[str, dict[str, tuple[dict[str, Any], str, str]]] = {
    "unknown model, unknown version, or no version ready": {
        "unknown model": ({"model": "none"}, "NOT_FOUND", 'no model "none"'),
        "unknown version": ({"model_version": "9"}, "NOT_FOUND", "doubler has no version 9; it has 1, 2"),
        "unknown alias": (
            {"parameters": {"pixelserve_alias": pb.InferParameter(string_param="stable")}},
            "NOT_FOUND",
            'doubler has no version called "stable"; it has none',
        ),
        "no version ready": ({"model": "damaged"}, "NOT_FOUND", "no version of model damaged is ready"),
    },
    "a named version that failed to load": {
        "beside others": ({"model_version": "3"}, "UNAVAILABLE", "version 3 of model doubler failed to load"),
        "alone": (
            {"model": "damaged", "model_version": "1"},
            "UNAVAILABLE",
            "version 1 of model damaged failed to load",
        ),
    },
    "a wrong version, input, shape, batch or output": {
        "a value that only the graph can refuse": (
            {"model": "picker", "inputs": [tensor("x", "INT64", (1,))], "raw": [bytes([7, *bytes(7)])]},
            "INVALID_ARGUMENT",
            "picker version 1: the model cannot compute these inputs; its Gather node reports: ",
        ),
        "version zero": ({"model_version": "0"}, "INVALID_ARGUMENT", "positive integer"),
        "version of letters": ({"model_version": "new"}, "INVALID_ARGUMENT", "positive integer"),
        "negative version": ({"model_version": "-1"}, "INVALID_ARGUMENT", "positive integer"),
        "wrong datatype": ({"inputs": [tensor(datatype="INT32")]}, "INVALID_ARGUMENT", "expected FP32"),
        "wrong rank": ({"inputs": [tensor(shape=(1, 2, 2))]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
        "wrong shape": ({"inputs": [tensor(shape=(2, 2))]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
        "minus one rows": ({"inputs": [tensor(shape=(-1, 4))]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
        "no rows": ({"inputs": [tensor(shape=(0, 4))], "raw": [b""]}, "INVALID_ARGUMENT", "0 rows"),
        "batch over max_batch_size": ({"rows": 9}, "INVALID_ARGUMENT", "9 rows; expected 1 to 8"),
        "inputs that disagree on the batch": (
            TWO | {"inputs": [TWO["inputs"][0], tensor("b", "FP32", (2, 2))], "raw": [bytes(8), bytes(16)]},
            "INVALID_ARGUMENT",
            "disagree on the rows",
        ),
        "missing input": (TWO | {"inputs": TWO["inputs"][:1], "raw": [bytes(8)]}, "INVALID_ARGUMENT", "b is missing"),
        "unknown input": ({"inputs": [tensor("image")]}, "INVALID_ARGUMENT", 'no input "image"'),
        "duplicate input": ({"inputs": [tensor()] * 2, "raw": [bytes(16)] * 2}, "INVALID_ARGUMENT", "occurs twice"),
        "unknown output": ({"outputs": [UNKNOWN_OUTPUT]}, "INVALID_ARGUMENT", 'no output "halved"'),
    },
    "contents that do not fit": {
        "too few raw bytes": ({"raw": [bytes(15)]}, "INVALID_ARGUMENT", "15 raw bytes; its shape and datatype make 16"),
        "too many raw bytes": ({"raw": [bytes(17)]}, "INVALID_ARGUMENT", "17 raw bytes"),
        "typed and raw": (typed(fp32_contents=[0] * 4) | {"raw": [bytes(16)]}, "INVALID_ARGUMENT", "send one"),
        "neither": ({"raw": []}, "INVALID_ARGUMENT", "has no data"),
        "in the wrong field": (typed(fp64_contents=[0] * 4), "INVALID_ARGUMENT", "expected fp32_contents"),
        "more buffers than inputs": ({"raw": [bytes(16), b""]}, "INVALID_ARGUMENT", "1 inputs and 2 buffers"),
        "fewer buffers than inputs": (TWO | {"raw": [bytes(8)]}, "INVALID_ARGUMENT", "2 inputs and 1 buffers"),
        "malformed strings": (
            {"model": "words", "inputs": [tensor("x", "BYTES", (1, 2))], "raw": [b"\x09\x00\x00\x00ab"]},
            "INVALID_ARGUMENT",
            "longer than the buffer",
        ),
    },
    "the deadline or the timeout passed": {
        "timeout": (
            {"model": "patient", "parameters": {"timeout": pb.InferParameter(int64_param=1000)}},
            "DEADLINE_EXCEEDED",
            "deadline passed",
        ),
    },
}
CASES = [
    pytest.param(*case, id=f"{row}: {name}") for row, requests in REQUESTS.items() for name, case in requests.items()
]

# Rows with a test of their own below.
OTHER_ROWS = {
    "ModelReady for an unknown or unready model",
    "queue full",
    "the client left",
    "server draining",
    "a model that fails at start-up",
    "a method or feature that is not served",
    "anything unexpected",
}
# Rows whose tests are in test_limits.py and, of watches, in tests/unit/server/test_health.py.
LIMIT_ROWS = {"far more in a message than a request needs", "a health Watch beyond 512 open ones"}
# Rows whose tests are in test_repository_control.py.
CONTROL_ROWS = {
    "load or unload in another mode than explicit",
    "a load that fails",
    "load of a folder that is not there",
    "load with a parameter or a repository's name",
}


def test_every_row_of_the_table_has_a_test(root: Path) -> None:
    section = (root / "docs" / "protocol.md").read_text().split("## Statuses")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")}
    assert rows - {"case", "---"} == REQUESTS.keys() | OTHER_ROWS | LIMIT_ROWS | CONTROL_ROWS


@dataclass
class Served:
    """A server, and how to speak with it."""

    process: Any
    channel: grpc.Channel

    @property
    def stub(self) -> Any:
        return inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def metric(self, name: str, *labels: str) -> float:
        """Returns the value of the one sample with a name and labels."""
        with urllib.request.urlopen(self.process.metrics, timeout=TIMEOUT_S) as page:
            lines = page.read().decode().splitlines()
        found = [line for line in lines if line.startswith(name + "{") and all(label in line for label in labels)]
        assert len(found) <= 1, found
        return float(found[0].split()[-1]) if found else 0


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
    write_patient_model: Callable[..., None],
) -> Path:
    path = tmp_path_factory.mktemp("repository")
    for version in (1, 2):
        model_writer(path / "doubler" / str(version) / "model.onnx")
    (path / "doubler" / "config.pbtxt").write_text("max_batch_size: 8 version_policy { all { } }")
    for model, version in (("doubler", 3), ("damaged", 1)):
        folder = path / model / str(version)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"damaged")
    a, b = ("INT64", ["N"]), ("FLOAT", ["N", 2])
    nodes = (("Neg", "a", "minus_a"), ("Neg", "b", "minus_b"))
    graph_writer(path / "pair" / "1" / "model.onnx", {"a": a, "b": b}, {"minus_a": a, "minus_b": b}, *nodes)
    words = ("STRING", ["N", 2])
    graph_writer(path / "words" / "1" / "model.onnx", {"x": words}, {"y": words}, ("Identity", "x", "y"))
    # Takes 0, and fails at any other index.
    index = ("INT64", ["N"])
    picks = (("Shape", "x", "shape"), ("Gather", "shape x", "y"))
    graph_writer(path / "picker" / "1" / "model.onnx", {"x": index}, {"y": index}, *picks)
    # Makes a tensor of this size.
    size, made = {"x": ("INT64", ["N"])}, {"y": ("FLOAT", ["size"])}
    graph_writer(path / "hungry" / "1" / "model.onnx", size, made, ("ConstantOfShape", "x", "y"))
    for model in ("patient", "left"):
        write_patient_model(path / model, rows=PATIENT_ROWS)
    write_patient_model(path / "narrow", rows=8, max_queue_size=1)
    return path


@pytest.fixture(scope="module")
def served(start_module_server: Callable[..., Any], repository: Path) -> Iterator[Served]:
    process = start_module_server(repository, "--no-exit-on-error")
    with grpc.insecure_channel(process.grpc) as channel:
        yield Served(process, channel)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Returns the status and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(("changes", "code", "said"), CASES)
def test_a_request_gets_the_rows_status(
    served: Served, make_request: Any, changes: dict[str, Any], code: str, said: str
) -> None:
    found, details = refusal(lambda: served.stub.ModelInfer(make_request(**changes), timeout=TIMEOUT_S))
    assert (found, said in details) == (code, True), details


@pytest.mark.parametrize(("changes", "code", "said"), CASES)
def test_the_same_on_a_stream(served: Served, make_request: Any, changes: dict[str, Any], code: str, said: str) -> None:
    (answer,) = served.stub.ModelStreamInfer(iter([make_request(**changes, id="7")]), timeout=TIMEOUT_S)
    assert answer.error_message.startswith(f"{code}: "), answer.error_message
    assert said in answer.error_message
    assert answer.infer_response.id == "7"


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("none", "", "NOT_FOUND"),
        ("doubler", "9", "NOT_FOUND"),
        ("damaged", "", "NOT_FOUND"),
        ("damaged", "1", "UNAVAILABLE"),
        ("doubler", "3", "UNAVAILABLE"),
        ("doubler", "0", "INVALID_ARGUMENT"),
    ],
)
def test_what_is_asked_of_a_model_gets_the_rows_status(
    served: Served, method: str, name: str, version: str, code: str
) -> None:
    message = getattr(pb, f"{method}Request")(name=name, version=version)
    assert refusal(lambda: getattr(served.stub, method)(message))[0] == code


@pytest.mark.parametrize(("name", "version"), [("none", ""), ("damaged", ""), ("damaged", "1"), ("doubler", "9")])
def test_model_ready_for_an_unknown_or_unready_model(served: Served, name: str, version: str) -> None:
    assert not served.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready


def test_a_deadline_that_passes(served: Served, make_request: Any) -> None:
    code, _ = refusal(lambda: served.stub.ModelInfer(make_request("patient"), timeout=0.05))
    assert code == "DEADLINE_EXCEEDED"


def test_queue_full(served: Served, make_request: Any, eventually: Any) -> None:
    waiting = served.stub.ModelInfer.future(make_request("narrow"), timeout=TIMEOUT_S)
    eventually(lambda: served.metric("nv_inference_pending_request_count", 'model="narrow"') == 1)
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.ModelInfer(make_request("narrow"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["retry-pushback-ms"]) > 0
    waiting.cancel()


def test_triton_status_codes(
    tmp_path: Path,
    start_server: Callable[..., Any],
    write_patient_model: Callable[..., None],
    make_request: Any,
    eventually: Any,
) -> None:
    """With --triton-status-codes, the rows whose status is not Triton's get Triton's: over gRPC, a stream and HTTP."""
    write_patient_model(tmp_path / "narrow", rows=8, max_queue_size=1)
    process = start_server(tmp_path, "--triton-status-codes")
    late = make_request("narrow", parameters={"timeout": pb.InferParameter(int64_param=1000)})
    body = {
        "parameters": {"timeout": 1000},
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}],
    }
    http = urllib.request.Request(f"{process.http}/v2/models/narrow/infer", json.dumps(body).encode())
    with grpc.insecure_channel(process.grpc) as channel:
        served = Served(process, channel)
        assert refusal(lambda: served.stub.ModelInfer(late, timeout=TIMEOUT_S))[0] == "UNAVAILABLE"
        (answer,) = served.stub.ModelStreamInfer(iter([late]), timeout=TIMEOUT_S)
        assert answer.error_message.startswith("UNAVAILABLE: ")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(http, timeout=TIMEOUT_S)
        assert caught.value.code == 503
        caught.value.close()
        waiting = served.stub.ModelInfer.future(make_request("narrow"), timeout=TIMEOUT_S)
        eventually(lambda: served.metric("nv_inference_pending_request_count", 'model="narrow"') == 1)
        code, _ = refusal(lambda: served.stub.ModelInfer(make_request("narrow"), timeout=TIMEOUT_S))
        assert code == "UNAVAILABLE"
        assert refusal(lambda: served.stub.ModelInfer(make_request("none")))[0] == "NOT_FOUND"
        waiting.cancel()


def test_the_client_left(served: Served, make_request: Any, eventually: Any) -> None:
    """Timeline: 1. a request waits for company; 2. its client leaves; 3. others come, and are all that is computed."""
    leaving = served.stub.ModelInfer.future(make_request("left"), timeout=TIMEOUT_S)
    eventually(lambda: served.metric("nv_inference_pending_request_count", 'model="left"') == 1)
    leaving.cancel()
    assert leaving.code() is grpc.StatusCode.CANCELLED
    failed = ("nv_inference_request_failure", 'model="left"', 'reason="CANCELED"')
    eventually(lambda: served.metric(*failed) == 1)
    served.stub.ModelInfer(make_request("left", rows=PATIENT_ROWS), timeout=TIMEOUT_S)
    eventually(lambda: served.metric("nv_inference_count", 'model="left"') == PATIENT_ROWS)


@pytest.mark.slow
def test_server_draining(
    tmp_path: Path,
    start_server: Callable[..., Any],
    model_writer: Callable[..., Path],
    write_patient_model: Any,
    make_request: Any,
    eventually: Any,
) -> None:
    """Timeline: 1. a request waits for six seconds; 2. SIGTERM; 3. health and readiness say no; 4. a call is accepted
    all the same; 5. three seconds later calls are refused; 6. the first request is answered; 7. exit code 0."""
    write_patient_model(tmp_path / "patient", rows=8, delay_s=6)
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    process = start_server(tmp_path, "--drain-settle-s", "3")
    with grpc.insecure_channel(process.grpc) as channel:
        served = Served(process, channel)
        accepted = served.stub.ModelInfer.future(make_request("patient"), timeout=TIMEOUT_S)
        eventually(lambda: served.metric("nv_inference_pending_request_count", 'model="patient"') == 1)
        process.process.send_signal(signal.SIGTERM)
        health = health_pb2_grpc.HealthStub(channel)
        no = health_pb2.HealthCheckResponse.NOT_SERVING
        eventually(lambda: health.Check(health_pb2.HealthCheckRequest()).status == no)
        assert not served.stub.ServerReady(pb.ServerReadyRequest()).ready
        assert served.stub.ModelInfer(make_request()).outputs

        def is_refused() -> bool:
            call = served.stub.ModelInfer.future(make_request(), timeout=TIMEOUT_S)
            return bool(call.code() is grpc.StatusCode.UNAVAILABLE)

        eventually(is_refused)
        assert not accepted.done()
        assert accepted.result().outputs
    assert process.process.wait(TIMEOUT_S) == 0


def test_a_model_that_fails_at_start_up_ends_the_server(failing_serve: Callable[..., Any], repository: Path) -> None:
    failure = failing_serve("--model-repository", str(repository))
    assert failure.code == 1
    assert "damaged/1/model.onnx" in failure.message


def test_a_model_that_fails_at_start_up_may_leave_the_others_and_an_unready_server(
    served: Served, make_request: Any
) -> None:
    assert not served.stub.ServerReady(pb.ServerReadyRequest()).ready
    assert served.stub.ModelReady(pb.ModelReadyRequest(name="doubler")).ready
    assert served.stub.ModelInfer(make_request()).outputs


def test_a_method_or_feature_that_is_not_served(served: Served) -> None:
    no_such = served.channel.unary_unary("/inference.GRPCInferenceService/NoSuchMethod")
    assert refusal(lambda: no_such(b"", timeout=TIMEOUT_S))[0] == "UNIMPLEMENTED"
    register = pb.CudaSharedMemoryRegisterRequest()
    assert refusal(lambda: served.stub.CudaSharedMemoryRegister(register))[0] == "UNIMPLEMENTED"


def test_anything_unexpected(served: Served, make_request: Any, eventually: Any) -> None:
    """The runtime has not so much memory."""
    wrong = make_request("hungry", inputs=[tensor("x", "INT64", (1,))], raw=[np.array([1 << 45], "<i8").tobytes()])
    code, details = refusal(lambda: served.stub.ModelInfer(wrong, timeout=TIMEOUT_S))
    assert code == "INTERNAL"
    assert "memory" not in details
    assert "Traceback" not in details
    (request_id,) = re.findall(r"the server's log has the details under ([0-9a-f]{12})", details)

    def logged() -> list[str]:
        return [str(event["exception"]) for event in served.process.events() if event.get("request_id") == request_id]

    eventually(lambda: len(logged()) == 1)
    assert "Failed to allocate memory" in logged()[0]
