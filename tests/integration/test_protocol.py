"""The Open Inference Protocol against a real server process."""

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

import pixelserve
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

SERVICE = "inference.GRPCInferenceService"
Tensor = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
# Concurrent calls; few, so the server's number of threads becomes constant.
CALLS = 4
TIMEOUT_S = 30


def asked(name: str, **parameters: int) -> Output:
    """Returns a requested output with integer parameters."""
    output = Output(name=name)
    for key, value in parameters.items():
        output.parameters[key].int64_param = value
    return output


def tensor(name: str, datatype: str, *shape: int) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=shape)


def typed_tensor(**contents: list[Any]) -> Tensor:
    return Tensor(name="values", datatype="FP32", shape=[1, 4], contents=pb.InferTensorContents(**contents))


def values(*rows: list[float]) -> dict[str, Any]:
    """Returns a request's inputs and raw bytes for the models that double rows of four."""
    array = np.array(rows, dtype=np.float32)
    return {"inputs": [tensor("values", "FP32", *array.shape)], "raw": [array.tobytes()]}


def array(response: pb.ModelInferResponse, index: int, dtype: str) -> Any:
    return np.frombuffer(response.raw_output_contents[index], dtype).reshape(response.outputs[index].shape)


def elements(raw: bytes) -> list[str]:
    """Returns the strings of a BYTES tensor."""
    found = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        found.append(raw[4:end].decode())
        raw = raw[end:]
    return found


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
    write_patient_model: Callable[..., Path],
) -> Path:
    """Models of every kind: see each one's comment."""
    path = tmp_path_factory.mktemp("repository")
    # Batches, with labels and versions 1, 2 and 10.
    for version in (1, 2, 10):
        model_writer(path / "doubler" / str(version) / "model.onnx")
    (path / "doubler" / "config.pbtxt").write_text(
        "max_batch_size: 8 dynamic_batching { } version_policy { all { } }"
        'output [ { name: "doubled" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]'
    )
    (path / "doubler" / "labels.txt").write_text("cat\ndog\nowl\nkühe\n")
    # No batch dimension: rank 2 and rank 1.
    model_writer(path / "fixed" / "1" / "model.onnx", rows=1)
    vector = ("FLOAT", [3])
    graph_writer(path / "vector" / "1" / "model.onnx", {"x": vector}, {"y": vector}, ("Identity", "x", "y"))
    # Two inputs, two outputs.
    a, b = ("INT64", ["N"]), ("FLOAT", ["N", 2])
    graph_writer(
        path / "pair" / "1" / "model.onnx",
        {"a": a, "b": b},
        {"minus_a": a, "minus_b": b},
        ("Neg", "a", "minus_a"),
        ("Neg", "b", "minus_b"),
    )
    # Strings.
    words = ("STRING", ["N", 2])
    graph_writer(path / "words" / "1" / "model.onnx", {"x": words}, {"y": words}, ("Identity", "x", "y"))
    # A free dimension beside the batch's.
    free = ("FLOAT", ["N", "width"])
    graph_writer(path / "free" / "1" / "model.onnx", {"x": free}, {"y": free}, ("Identity", "x", "y"))
    # Two that wait until so many requests are there; one that refuses the second.
    write_patient_model(path / "patient", rows=CALLS)
    write_patient_model(path / "roomy", rows=CALLS)
    write_patient_model(path / "narrow", rows=8, max_queue_size=1)
    return path


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    """A server on those models that takes messages of up to 1 MiB."""
    return start_module_server(repository, "--max-message-mib", "1")


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    """A channel to it that would take larger messages."""
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> inference_pb2_grpc.GRPCInferenceServiceStub:
    """The service's methods."""
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def health(channel: grpc.Channel) -> health_pb2_grpc.HealthStub:
    """The health service's methods."""
    return health_pb2_grpc.HealthStub(channel)


def send(channel: grpc.Channel, method: str, message: bytes) -> bytes:
    """Calls a method with bytes."""
    return channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=TIMEOUT_S)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Returns the status and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def test_the_server_is_live_and_ready(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready


def test_server_metadata_lists_only_what_is_served(stub: Any) -> None:
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("pixelserve", pixelserve.__version__)
    assert list(metadata.extensions) == [
        "classification",
        "logging",
        "model_configuration",
        "model_repository",
        "statistics",
        "trace",
    ]


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("doubler", "", True),
        ("doubler", "2", True),
        ("doubler", "3", False),
        ("none", "", False),
        ("", "", False),
    ],
)
def test_a_model_is_ready_or_not_and_never_an_error(stub: Any, name: str, version: str, ready: bool) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


def test_readiness_of_an_invalid_version_is_refused(stub: Any) -> None:
    code, details = refusal(lambda: stub.ModelReady(pb.ModelReadyRequest(name="doubler", version="new")))
    assert code == "INVALID_ARGUMENT"
    assert '"new"' in details


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        pytest.param("doubler", [("values", "FP32", [-1, 4])], [("doubled", "FP32", [-1, 4])], id="batching"),
        pytest.param("fixed", [("values", "FP32", [1, 4])], [("doubled", "FP32", [1, 4])], id="not batching"),
        pytest.param(
            "pair",
            [("a", "INT64", [-1]), ("b", "FP32", [-1, 2])],
            [("minus_a", "INT64", [-1]), ("minus_b", "FP32", [-1, 2])],
            id="two of each",
        ),
        pytest.param("words", [("x", "BYTES", [-1, 2])], [("y", "BYTES", [-1, 2])], id="strings"),
        pytest.param("free", [("x", "FP32", [-1, -1])], [("y", "FP32", [-1, -1])], id="another free dimension"),
    ],
)
def test_model_metadata_describes_the_tensors(stub: Any, model: str, inputs: list[Any], outputs: list[Any]) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=model))
    assert (metadata.name, metadata.platform) == (model, "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == inputs
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == outputs


def test_model_metadata_lists_the_versions_that_serve(stub: Any) -> None:
    assert list(stub.ModelMetadata(pb.ModelMetadataRequest(name="doubler")).versions) == ["1", "2", "10"]


@pytest.mark.parametrize(("version", "found"), [("", "10"), ("2", "2")])
def test_model_metadata_carries_evidence_and_provider(stub: Any, version: str, found: str) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="doubler", version=version))
    assert dict(metadata.properties) == {
        "version": found,
        "provider": "CPUExecutionProvider",
        "engine": "onnxruntime",
        "precision": "float32",
        "verified": "false",
        "evidence": "unverified: no card.json",
        "rows": "independent",
        "output_kind": "scores",
        "output_kind_reason": metadata.properties["output_kind_reason"],
    }


@pytest.mark.parametrize(
    ("name", "version", "code", "said"),
    [
        ("none", "", "NOT_FOUND", 'no model "none"; this server has doubler, fixed, free'),
        ("doubler", "3", "NOT_FOUND", "doubler has no version 3; it has 1, 2, 10"),
        ("doubler", "0", "INVALID_ARGUMENT", "expected a positive integer"),
    ],
)
def test_metadata_of_what_is_not_there_is_refused(stub: Any, name: str, version: str, code: str, said: str) -> None:
    found, details = refusal(lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)))
    assert found == code
    assert said in details


@pytest.mark.parametrize(("version", "resolved"), [("", "10"), ("1", "1"), ("2", "2")])
def test_an_answer_echoes_the_id_and_names_model_and_resolved_version(
    stub: Any, make_request: Any, version: str, resolved: str
) -> None:
    response = stub.ModelInfer(make_request("doubler", model_version=version, id="übung 7"))
    assert (response.model_name, response.model_version, response.id) == ("doubler", resolved, "übung 7")


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_an_answer_holds_the_outputs_as_raw_bytes(stub: Any, make_request: Any, rows: int) -> None:
    response = stub.ModelInfer(make_request("doubler", rows=rows))
    assert [(each.name, each.datatype, list(each.shape)) for each in response.outputs] == [
        ("doubled", "FP32", [rows, 4])
    ]
    expected = 2 * np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    np.testing.assert_array_equal(array(response, 0, "<f4"), expected)
    assert not response.outputs[0].HasField("contents")


def test_typed_contents_are_as_good_as_raw(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name="doubler", inputs=[tensor("values", "FP32", 1, 4)])
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    assert array(stub.ModelInfer(request), 0, "<f4").tolist() == [[2, 4, 6, 8]]


def test_a_model_without_a_batch_dimension_is_served(stub: Any, make_request: Any) -> None:
    response = stub.ModelInfer(make_request("fixed", **values([1, 2, 3, 4])))
    assert array(response, 0, "<f4").tolist() == [[2, 4, 6, 8]]


def test_strings_go_in_and_come_out(stub: Any, make_request: Any) -> None:
    raw = b"\x02\x00\x00\x00ab" + b"\x00\x00\x00\x00" + b"\x03\x00\x00\x00\xe2\x82\xac" + b"\x01\x00\x00\x00\x00"
    response = stub.ModelInfer(make_request("words", inputs=[tensor("x", "BYTES", 2, 2)], raw=[raw]))
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2, 2])
    assert list(response.raw_output_contents) == [raw]


A_THEN_B = {"inputs": [tensor("a", "INT64", 1), tensor("b", "FP32", 1, 2)], "raw": [b"\x07" + bytes(7), bytes(8)]}
B_THEN_A = {"inputs": A_THEN_B["inputs"][::-1], "raw": A_THEN_B["raw"][::-1]}


@pytest.mark.parametrize("sent", [A_THEN_B, B_THEN_A], ids=["inputs in order", "inputs in reverse"])
@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        pytest.param([], ["minus_a", "minus_b"], id="none named: all"),
        pytest.param(["minus_b", "minus_a"], ["minus_b", "minus_a"], id="in the order asked for"),
        pytest.param(["minus_b"], ["minus_b"], id="one"),
    ],
)
def test_outputs_come_in_the_order_asked_for(
    stub: Any, make_request: Any, sent: dict[str, Any], outputs: list[str], names: list[str]
) -> None:
    response = stub.ModelInfer(make_request("pair", **sent, outputs=[asked(name) for name in outputs]))
    assert [each.name for each in response.outputs] == names
    assert len(response.raw_output_contents) == len(names)
    if "minus_a" in names:
        assert array(response, names.index("minus_a"), "<i8").tolist() == [-7]
    assert array(response, names.index("minus_b"), "<f4").tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("count", "shape", "best"),
    [
        pytest.param(1, [2, 1], ["6.000000:2:owl", "9.000000:0:cat"], id="the best"),
        pytest.param(
            2, [2, 2], ["6.000000:2:owl", "4.000000:1:dog", "9.000000:0:cat", "1.000000:1:dog"], id="two, ties by index"
        ),
        pytest.param(
            99,
            [2, 4],
            [
                *("6.000000:2:owl", "4.000000:1:dog", "2.000000:0:cat", "-8.000000:3:kühe"),
                *("9.000000:0:cat", "1.000000:1:dog", "1.000000:2:owl", "1.000000:3:kühe"),
            ],
            id="more than there are: all",
        ),
    ],
)
def test_classification_gives_the_best_classes(
    stub: Any, make_request: Any, count: int, shape: list[int], best: list[str]
) -> None:
    sent = values([1, 2, 3, -4], [4.5, 0.5, 0.5, 0.5])
    response = stub.ModelInfer(make_request("doubler", **sent, outputs=[asked("doubled", classification=count)]))
    assert [(each.name, each.datatype, list(each.shape)) for each in response.outputs] == [("doubled", "BYTES", shape)]
    assert elements(response.raw_output_contents[0]) == best


def test_classification_of_a_model_without_a_batch_dimension_has_one_axis(stub: Any, make_request: Any) -> None:
    sent = {"inputs": [tensor("x", "FP32", 3)], "raw": [np.array([1, 3, 2], dtype="<f4").tobytes()]}
    response = stub.ModelInfer(make_request("vector", **sent, outputs=[asked("y", classification=2)]))
    assert list(response.outputs[0].shape) == [2]
    assert elements(response.raw_output_contents[0]) == ["3.000000:1", "2.000000:2"]


def test_parameters_that_mean_nothing_here_are_ignored(stub: Any, make_request: Any) -> None:
    parameters = {
        "priority": pb.InferParameter(uint64_param=3),
        "sequence_id": pb.InferParameter(string_param="x"),
        "triton_enable_empty_final_response": pb.InferParameter(bool_param=True),
        "timeout": pb.InferParameter(int64_param=60_000_000),
    }
    assert stub.ModelInfer(make_request("doubler", parameters=parameters)).outputs


ROW = bytes(16)
X = tensor("values", "FP32", 1, 4)
TRITON = {"triton_custom": pb.InferParameter(bool_param=True)}


def late(**choice: int) -> dict[str, pb.InferParameter]:
    return {"timeout": pb.InferParameter(**choice)}


# Differences from a valid request of the doubler, and the expected error.
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown model": ({"model": "none"}, "NOT_FOUND", 'no model "none"'),
    "no model": ({"model": ""}, "NOT_FOUND", 'no model ""'),
    "a model name with a slash": ({"model": "../doubler"}, "NOT_FOUND", "no model"),
    "a model name of dots": ({"model": ".."}, "NOT_FOUND", "no model"),
    "a model name with a NUL": ({"model": "doubler\0"}, "NOT_FOUND", "no model"),
    "an unknown version": ({"model_version": "3"}, "NOT_FOUND", "no version 3"),
    "version zero": ({"model_version": "0"}, "INVALID_ARGUMENT", "positive integer"),
    "a version with a leading zero": ({"model_version": "01"}, "INVALID_ARGUMENT", "positive integer"),
    "a version that is a word": ({"model_version": "latest"}, "INVALID_ARGUMENT", "positive integer"),
    "a version of 5000 digits": ({"model_version": "9" * 5000}, "INVALID_ARGUMENT", "model version"),
    "a model name of 100 kB": ({"model": "ü" * 50_000}, "NOT_FOUND", "no model"),
    "another datatype": ({"inputs": [tensor("values", "FP64", 1, 4)]}, "INVALID_ARGUMENT", "expected FP32"),
    "another rank": ({"inputs": [tensor("values", "FP32", 4)]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
    "another shape": ({"inputs": [tensor("values", "FP32", 1, 5)]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
    "minus one rows": ({"inputs": [tensor("values", "FP32", -1, 4)]}, "INVALID_ARGUMENT", "expected [-1, 4]"),
    "no rows": ({"inputs": [tensor("values", "FP32", 0, 4)], "raw": [b""]}, "INVALID_ARGUMENT", "0 rows"),
    "too many rows": ({"rows": 9}, "INVALID_ARGUMENT", "9 rows; expected 1 to 8"),
    "inputs that disagree on the rows": (
        {
            "model": "pair",
            "inputs": [tensor("a", "INT64", 1), tensor("b", "FP32", 2, 2)],
            "raw": [bytes(8), bytes(16)],
        },
        "INVALID_ARGUMENT",
        "disagree on the rows",
    ),
    "a missing input": (
        {"model": "pair", "inputs": [tensor("a", "INT64", 1)], "raw": [bytes(8)]},
        "INVALID_ARGUMENT",
        "input b is missing",
    ),
    "no inputs": ({"inputs": [], "raw": []}, "INVALID_ARGUMENT", "input values is missing"),
    "an unknown input": ({"inputs": [tensor("image", "FP32", 1, 4)]}, "INVALID_ARGUMENT", 'no input "image"'),
    "an input twice": ({"inputs": [X, X], "raw": [ROW, ROW]}, "INVALID_ARGUMENT", "twice"),
    "an unknown output": ({"outputs": [asked("halved")]}, "INVALID_ARGUMENT", 'no output "halved"; it has doubled'),
    "an output twice": ({"outputs": [asked("doubled"), asked("doubled")]}, "INVALID_ARGUMENT", "requested twice"),
    "a byte too few": ({"raw": [ROW[1:]]}, "INVALID_ARGUMENT", "15 raw bytes; its shape and datatype make 16"),
    "a byte too many": ({"raw": [ROW + b"x"]}, "INVALID_ARGUMENT", "17 raw bytes"),
    "typed and raw contents": (
        {"inputs": [typed_tensor(fp32_contents=[0] * 4)]},
        "INVALID_ARGUMENT",
        "send one",
    ),
    "typed contents in another field": (
        {
            "inputs": [typed_tensor(int_contents=[0] * 4)],
            "raw": [],
        },
        "INVALID_ARGUMENT",
        "came in int_contents; expected fp32_contents",
    ),
    "no contents": ({"raw": []}, "INVALID_ARGUMENT", "input values has no data"),
    "fewer buffers than inputs": (
        {"model": "pair", "inputs": A_THEN_B["inputs"], "raw": [bytes(8)]},
        "INVALID_ARGUMENT",
        "2 inputs and 1 buffers",
    ),
    "more buffers than inputs": ({"raw": [ROW, b""]}, "INVALID_ARGUMENT", "1 inputs and 2 buffers"),
    "malformed strings": (
        {"model": "words", "inputs": [tensor("x", "BYTES", 1, 2)], "raw": [b"\xff\xff\xff\xffab"]},
        "INVALID_ARGUMENT",
        "longer than the buffer",
    ),
    "strings that are not UTF-8": (
        {"model": "words", "inputs": [tensor("x", "BYTES", 1, 2)], "raw": [b"\x01\x00\x00\x00\xff\x00\x00\x00\x00"]},
        "INVALID_ARGUMENT",
        "not UTF-8",
    ),
    "a shape of 2**124 elements": (
        {"model": "free", "inputs": [tensor("x", "FP32", 1, 2**62)]},
        "INVALID_ARGUMENT",
        f"make {2**64}",
    ),
    "classification of none": (
        {"outputs": [asked("doubled", classification=0)]},
        "INVALID_ARGUMENT",
        "classification is 0; expected 1 or more",
    ),
    "classification of minus one": (
        {"outputs": [asked("doubled", classification=-1)]},
        "INVALID_ARGUMENT",
        "classification is -1; expected 1 or more",
    ),
    "classification of strings": (
        {
            "model": "words",
            "inputs": [tensor("x", "BYTES", 1, 2)],
            "raw": [bytes(8)],
            "outputs": [asked("y", classification=1)],
        },
        "INVALID_ARGUMENT",
        "not a row of class scores",
    ),
    "a triton_ parameter": (
        {"parameters": TRITON},
        "INVALID_ARGUMENT",
        "triton_custom is not served",
    ),
    "a timeout of zero": ({"parameters": late(int64_param=0)}, "INVALID_ARGUMENT", "positive number of microseconds"),
    "a timeout that has passed": ({"parameters": late(int64_param=1)}, "DEADLINE_EXCEEDED", "the deadline passed"),
}


@pytest.mark.parametrize(("changes", "code", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_gets_its_status_and_the_reason(
    stub: Any, make_request: Any, changes: dict[str, Any], code: str, said: str
) -> None:
    found, details = refusal(lambda: stub.ModelInfer(make_request(**changes), timeout=TIMEOUT_S))
    assert (found, said in details) == (code, True), details


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelReady", "ServerLive"])
@pytest.mark.parametrize(
    "message", [b"\xff\xff", b"\x0a\xff\xff\xff\x7f", b"\x0a\x01\xff"], ids=["no tag", "cut off", "not UTF-8"]
)
def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, method: str, message: bytes) -> None:
    if method == "ServerLive" and message == b"\x0a\x01\xff":
        # An empty message has no field that must be text.
        send(channel, method, message)
        return
    code, details = refusal(lambda: send(channel, method, message))
    assert code == "INVALID_ARGUMENT"
    assert f"the request is not a {method}Request" in details


def test_a_message_over_the_limit_is_refused(stub: Any, make_request: Any) -> None:
    code, _ = refusal(lambda: stub.ModelInfer(make_request(raw=[bytes(1024 * 1024)]), timeout=TIMEOUT_S))
    assert code == "RESOURCE_EXHAUSTED"


def test_a_message_just_below_the_limit_is_read(stub: Any, make_request: Any) -> None:
    width = 1024 * 256 - 64
    sent = {"inputs": [tensor("x", "FP32", 1, width)], "raw": [bytes(4 * width)]}
    assert list(stub.ModelInfer(make_request("free", **sent), timeout=TIMEOUT_S).outputs[0].shape) == [1, width]


@pytest.mark.parametrize(
    "method",
    ["SystemSharedMemoryStatus", "CudaSharedMemoryRegister", "NoSuchMethod"],
)
def test_a_method_that_is_not_served_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    assert refusal(lambda: send(channel, method, b""))[0] == "UNIMPLEMENTED"


def python_threads(pid: int) -> int:
    """Returns how many of a process's threads are its own; gRPC's core names its threads, and has them come and go."""
    names = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/comm")]
    own = Path(f"/proc/{pid}/comm").read_text()
    return names.count(own)


def resident_kib(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_after_all_wrong_requests_the_server_is_as_before(
    server: Any, channel: grpc.Channel, stub: Any, make_request: Any, eventually: Callable[..., None]
) -> None:
    """Timeline: 1. requests wait for each other, so that every thread is started; 2. all that is wrong is sent, twice;
    3. again they are answered."""

    def call_at_once() -> None:
        waiting = [stub.ModelInfer.future(make_request("patient"), timeout=TIMEOUT_S) for _ in range(CALLS)]
        assert [len(each.result().outputs) for each in waiting] == [1] * CALLS

    call_at_once()
    before, memory_kib = python_threads(server.process.pid), resident_kib(server.process.pid)
    for _ in range(2):
        for changes, code, _ in WRONG.values():
            assert refusal(lambda changes=changes: stub.ModelInfer(make_request(**changes)))[0] == code
        # No message; and raw contents of a gigabyte, declared in a few bytes.
        for body in (b"\xff", b"\x3a\x80\x80\x80\x80\x04abc"):
            assert refusal(lambda body=body: send(channel, "ModelInfer", body))[0] == "INVALID_ARGUMENT"
    call_at_once()
    eventually(lambda: python_threads(server.process.pid) <= before)
    assert resident_kib(server.process.pid) < memory_kib + 8 * 1024
    assert [event for event in server.events() if event["level"] == "error"] == []


def metric(server: Any, name: str, **labels: str) -> float:
    """Returns a value from the metrics page."""
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
        samples = [
            sample
            for family in text_string_to_metric_families(page.read().decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
    assert len(samples) == 1, (name, labels)
    return samples[0].value


def test_a_caller_who_leaves_is_dropped_and_its_mates_are_answered(
    server: Any, stub: Any, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. a request waits for company; 2. its caller leaves: it is dropped at once; 3. others come, and fill a
    batch; 4. they alone are computed."""
    leaving = stub.ModelInfer.future(make_request("roomy"))
    eventually(lambda: metric(server, "nv_inference_pending_request_count", model="roomy") == 1)
    leaving.cancel()
    eventually(lambda: metric(server, "nv_inference_pending_request_count", model="roomy") == 0)
    mates = [stub.ModelInfer.future(make_request("roomy"), timeout=TIMEOUT_S) for _ in range(CALLS)]
    assert [len(each.result().outputs) for each in mates] == [1] * CALLS
    eventually(lambda: metric(server, "nv_inference_count", model="roomy") == CALLS)
    assert metric(server, "nv_inference_request_failure", model="roomy", reason="CANCELED") == 1


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    server: Any, stub: Any, make_request: Any, eventually: Any
) -> None:
    waiting = stub.ModelInfer.future(make_request("narrow"), timeout=TIMEOUT_S)
    eventually(lambda: metric(server, "nv_inference_pending_request_count", model="narrow") == 1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(make_request("narrow"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(caught.value.trailing_metadata())
    assert int(trailing["retry-pushback-ms"]) > 0
    assert trailing["grpc-retry-pushback-ms"] == trailing["retry-pushback-ms"]
    waiting.cancel()


def test_health_knows_the_server_the_service_and_every_model(health: Any, repository: Path) -> None:
    for service in ("", SERVICE, *(path.name for path in repository.iterdir())):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING, service


@pytest.mark.parametrize("service", ["none", "pixelserve", "doubler/1"])
def test_health_of_an_unknown_service_is_not_found(health: Any, service: str) -> None:
    assert refusal(lambda: health.Check(health_pb2.HealthCheckRequest(service=service)))[0] == "NOT_FOUND"


def test_reflection_lists_and_describes_the_services(channel: grpc.Channel) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, described = stub.ServerReflectionInfo(iter(requests), timeout=TIMEOUT_S)
    assert {each.name for each in listed.list_services_response.service} == {
        SERVICE,
        "pixelserve.v1.Classifier",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


def test_metrics_count_what_the_protocol_was_asked(server: Any, stub: Any, make_request: Any, eventually: Any) -> None:
    def successes() -> float:
        return metric(server, "nv_inference_request_success", model="fixed")

    before = successes()
    for _ in range(3):
        stub.ModelInfer(make_request("fixed", **values([1, 2, 3, 4])))
    # The last answer is sent before it is counted.
    eventually(lambda: successes() == before + 3)
