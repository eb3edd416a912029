"""Published classes of faults in Triton: none may exist here.

Many tiny HTTP chunks (CVE-2025-23310, CVE-2025-23311), names of internal shared memory in errors (CVE-2025-23319,
CVE-2025-23320), requests for very many outputs, oversized JSON, files written where a client says (CVE-2023-31036,
CVE-2024-0087), numbers that overflow (CVE-2025-23323).
"""

import contextlib
import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from neighbours import request

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

pytestmark = pytest.mark.slow

TIMEOUT_S = 120
MIB = 1 << 20
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
INFER = "/v2/models/doubler/infer"


@pytest.fixture(scope="module")
def server(
    start_module_server: Callable[..., Any], repository: Path, make_target: Callable[..., Any], transport: str
) -> Any:
    """A server in which everything is switched on that has had such faults."""
    options = ("--system-shared-memory", "--model-control-mode", "explicit", "--load-models", "doubler")
    return make_target(start_module_server(repository, *options), transport)


def _post(server: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(server.process.http).netloc, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def _refused(server: Any, asked: pb.ModelInferRequest) -> grpc.RpcError:
    with grpc.insecure_channel(server.address, OPTIONS) as channel, pytest.raises(grpc.RpcError) as caught:
        inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=TIMEOUT_S)
    return caught.value


@pytest.mark.parametrize("size", [1, 7])
def test_a_body_of_tiny_chunks_is_read_like_any_other(server: Any, size: int) -> None:
    """A hundred thousand of them."""
    rows = 100_000 * size // 40
    values = [[float(row % 10)] * 4 for row in range(min(rows, 64))]
    body = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [len(values), 4], "data": values}]}
    text = json.dumps(body).encode()
    text += b" " * (100_000 * size - len(text))
    chunks = b"".join(b"%x\r\n%b\r\n" % (size, text[at : at + size]) for at in range(0, len(text), size)) + b"0\r\n\r\n"
    with server.holds(growth_mib=128):
        status, answer = _post(server, INFER, chunks, {"Transfer-Encoding": "chunked"})
    assert status == 200
    assert answer["outputs"][0]["data"] == [2 * value for row in values for value in row]


def test_a_hundred_thousand_requested_outputs_are_refused(server: Any) -> None:
    asked = request(7)
    for number in range(100_000):
        asked.outputs.add(name=f"doubled{number}")
    outputs = [{"name": f"doubled{number}"} for number in range(100_000)]
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    with server.holds(growth_mib=192):
        error = _refused(server, asked)
        status, answer = _post(server, INFER, json.dumps({"inputs": [tensor], "outputs": outputs}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(error.details()) < 1000
    assert status == 400
    assert len(answer["error"]) < 1000


def test_the_same_output_is_not_computed_a_thousand_times(server: Any) -> None:
    asked = request(7)
    for _ in range(1000):
        asked.outputs.add(name="doubled")
    assert _refused(server, asked).code() is grpc.StatusCode.INVALID_ARGUMENT


DEEP = {
    "lists": b"[" * 1_000_000,
    "closed lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 200_000,
    "a tensor": b'{"inputs":[{"name":"values","datatype":"FP32","shape":[1,4],"data":'
    + b"[" * 50_000
    + b"1"
    + b"]" * 50_000,
    "a parameter": b'{"parameters":{"a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}}",
}


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index", "/v2/repository/models/doubler/load"])
@pytest.mark.parametrize("name", DEEP)
def test_json_that_is_nested_too_deep_is_refused(server: Any, path: str, name: str) -> None:
    with server.holds(growth_mib=192):
        status, answer = _post(server, path, DEEP[name])
    assert status == 400
    assert len(answer["error"]) < 1000


def test_more_json_than_is_taken_is_refused_before_it_is_read(server: Any) -> None:
    body = b'{"inputs": [' + b'{"name": "values"},' * (40 * MIB // 19) + b"{}]}"
    with server.holds(growth_mib=192):
        status, answer = _post(server, INFER, body)
    assert status in (400, 413)
    assert "--max-json-mib" in answer["error"]


def test_a_config_that_is_nested_too_deep_is_refused(server: Any) -> None:
    for config in ("[" * 500_000, '{"parameters":' * 200_000, '{"input":[' * 100_000):
        body = json.dumps({"parameters": {"config": config}})
        with server.holds(growth_mib=192):
            assert _post(server, "/v2/repository/models/doubler/load", body)[0] == 400


@pytest.fixture
def region(server: Any) -> Any:
    """A region whose key only its owner knows."""
    path = Path("/dev/shm/pixelserve-test-secret")
    path.write_bytes(bytes(64))
    where = "/v2/systemsharedmemory/region/mine"
    assert _post(server, f"{where}/register", json.dumps({"key": f"/{path.name}", "byte_size": 64}))[0] == 200
    yield path
    _post(server, f"{where}/unregister", "{}")
    path.unlink(missing_ok=True)


def test_no_error_tells_what_shared_memory_there_is(server: Any, region: Path) -> None:
    """Neither another's key nor a path, whatever is wrong with a request that uses a region."""
    messages = []
    for size, offset, left in ((16, 0, 0), (64, 1, 64), (16, 0, 4), (-1, 0, 64), (1 << 62, 1 << 62, 64)):
        os.truncate(region, left)
        asked = pb.ModelInferRequest(model_name="doubler")
        for tensor in (
            asked.inputs.add(name="values", datatype="FP32", shape=[1, 4]),
            asked.outputs.add(name="doubled"),
        ):
            tensor.parameters["shared_memory_region"].string_param = "mine"
            tensor.parameters["shared_memory_byte_size"].int64_param = size
            tensor.parameters["shared_memory_offset"].int64_param = offset
        error = _refused(server, asked)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        messages.append(error.details())
    assert not [message for message in messages if region.name in message or "/dev/shm" in message]


def test_the_server_has_no_shared_memory_of_its_own(server: Any) -> None:
    """Clients cannot register memory that does not exist."""
    held = []
    for descriptor in Path(f"/proc/{server.process.process.pid}/fd").iterdir():
        # The server may close it in between.
        with contextlib.suppress(FileNotFoundError):
            held.append(str(descriptor.readlink()))
    assert held
    assert not [path for path in held if path.startswith("/dev/shm")]


@pytest.mark.parametrize("name", ["file:../escaped", "file:/tmp/escaped", "file:1/../../escaped", "file:1/\0"])
def test_files_that_come_with_a_load_stay_where_they_belong(server: Any, name: str) -> None:
    parameters = {"config": "{}", name: "AAAA"}
    assert _post(server, "/v2/repository/models/doubler/load", json.dumps({"parameters": parameters}))[0] == 400
    assert not list(Path("/tmp").glob("escaped*"))


@pytest.mark.parametrize("method", ["LogSettings", "TraceSetting"])
def test_no_client_says_where_the_server_writes(server: Any, tmp_path: Path, method: str) -> None:
    path = str(tmp_path / "made")
    asked: Any = pb.LogSettingsRequest() if method == "LogSettings" else pb.TraceSettingRequest()
    if method == "LogSettings":
        asked.settings["log_file"].string_param = path
    else:
        asked.settings["trace_file"].value.append(path)
    with grpc.insecure_channel(server.address, OPTIONS) as channel:
        call = getattr(inference_pb2_grpc.GRPCInferenceServiceStub(channel), method)
        with pytest.raises(grpc.RpcError):
            call(asked, timeout=TIMEOUT_S)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [[1 << 32, 1 << 32], [1 << 62, 4], [-1, 4], [0, 1 << 63 - 1], [1 << 31, 1 << 31, 1 << 2]]
)
def test_shapes_whose_product_overflows_are_refused(server: Any, shape: list[int]) -> None:
    raw = pb.ModelInferRequest(model_name="doubler", raw_input_contents=[np.zeros(4, np.float32).tobytes()])
    raw.inputs.add(name="values", datatype="FP32", shape=shape)
    assert _refused(server, raw).code() is grpc.StatusCode.INVALID_ARGUMENT
    tensor = {"name": "values", "datatype": "FP32", "shape": shape, "data": [1, 2, 3, 4]}
    assert _post(server, INFER, json.dumps({"inputs": [tensor]}))[0] == 400
