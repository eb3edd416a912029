"""Tensors in shared memory, with a real server process."""

import uuid
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

TIMEOUT_S = 30
ROW = np.array([[1, 2, 3, 4]], dtype=np.float32)


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, model_writer: Callable[..., Path], graph_writer: Callable[..., Path]
) -> Path:
    path = tmp_path_factory.mktemp("repository")
    model_writer(path / "doubler" / "1" / "model.onnx")
    a, b = ("INT64", ["N"]), ("FLOAT", ["N", 2])
    nodes = (("Neg", "a", "minus_a"), ("Neg", "b", "minus_b"))
    graph_writer(path / "pair" / "1" / "model.onnx", {"a": a, "b": b}, {"minus_a": a, "minus_b": b}, *nodes)
    words = ("STRING", ["N", 2])
    graph_writer(path / "words" / "1" / "model.onnx", {"x": words}, {"y": words}, ("Identity", "x", "y"))
    return path


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    return start_module_server(repository, "--system-shared-memory", "--max-inflight-mib", "1")


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield inference_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """An object of at least 2 MiB."""
    memory = SharedMemory(f"pixelserve-test-{uuid.uuid4().hex}", create=True, size=2 * 1024 * 1024)
    yield memory
    memory.close()
    memory.unlink()


@pytest.fixture
def region(stub: Any, memory: SharedMemory) -> Iterator[str]:
    """The object from its byte 100 on, 1000 bytes, registered as `region`."""
    register(stub, memory)
    yield "region"
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())


def register(stub: Any, memory: SharedMemory, **fields: Any) -> None:
    fields = {"name": "region", "key": f"/{memory.name}", "offset": 100, "byte_size": 1000} | fields
    stub.SystemSharedMemoryRegister(pb.SystemSharedMemoryRegisterRequest(**fields))


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Returns the status and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def place(parameters: Any, size: int | None, offset: int = 0, region: str = "region") -> None:
    """Points a tensor into a region, as Triton's client does."""
    parameters["shared_memory_region"].string_param = region
    if size is not None:
        parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        parameters["shared_memory_offset"].int64_param = offset


def request(
    inputs: tuple[Any, ...] | None = None, outputs: tuple[Any, ...] | None = None, **fields: Any
) -> pb.ModelInferRequest:
    """Returns a request of the doubler; `inputs` and `outputs` are what `place` takes, None: in the message."""
    message = pb.ModelInferRequest(model_name="doubler", **fields)
    message.inputs.add(name="values", datatype="FP32", shape=[1, 4])
    if inputs is None:
        message.raw_input_contents.append(ROW.tobytes())
    else:
        place(message.inputs[0].parameters, *inputs)
    if outputs is not None:
        place(message.outputs.add(name="doubled").parameters, *outputs)
    return message


def at(memory: SharedMemory, offset: int, size: int) -> bytes:
    """Returns bytes of the registered region."""
    return bytes(memory.buf[100 + offset : 100 + offset + size])


def put(memory: SharedMemory, offset: int, data: bytes) -> None:
    memory.buf[100 + offset : 100 + offset + len(data)] = data


def test_the_extension_is_listed(stub: Any) -> None:
    assert "system_shared_memory" in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("offset", [0, 3, 984])
def test_an_input_is_read_from_a_region(stub: Any, memory: SharedMemory, offset: int) -> None:
    for number in range(3):
        put(memory, offset, (ROW * number).tobytes())
        response = stub.ModelInfer(request((16, offset)))
        assert response.raw_output_contents[0] == (2 * ROW * number).tobytes()


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("offset", [0, 3, 984])
def test_an_output_is_written_to_a_region_and_to_nothing_else(stub: Any, memory: SharedMemory, offset: int) -> None:
    before = bytes(memory.buf)
    response = stub.ModelInfer(request(None, (16, offset), id="7"))
    after = before[: 100 + offset] + (2 * ROW).tobytes() + before[100 + offset + 16 :]
    assert bytes(memory.buf) == after
    (output,) = response.outputs
    assert (response.id, output.name, list(output.shape)) == ("7", "doubled", [1, 4])
    assert output.parameters["shared_memory_region"].string_param == "region"
    assert output.parameters["shared_memory_byte_size"].int64_param == 16
    assert output.parameters["shared_memory_offset"].int64_param == offset
    assert list(response.raw_output_contents) == [b""]


@pytest.mark.usefixtures("region")
def test_a_request_may_mix_memory_and_message(stub: Any, memory: SharedMemory) -> None:
    """Of two inputs the second is in the message, of two outputs the first."""
    put(memory, 0, np.array([5], dtype="<i8").tobytes())
    message = pb.ModelInferRequest(model_name="pair", raw_input_contents=[np.ones((1, 2), "<f4").tobytes()])
    place(message.inputs.add(name="a", datatype="INT64", shape=[1]).parameters, 8)
    message.inputs.add(name="b", datatype="FP32", shape=[1, 2])
    message.outputs.add(name="minus_a")
    place(message.outputs.add(name="minus_b").parameters, 100, 40)
    response = stub.ModelInfer(message)
    assert np.frombuffer(response.raw_output_contents[0], "<i8").tolist() == [-5]
    assert response.raw_output_contents[1] == b""
    assert np.frombuffer(at(memory, 40, 8), "<f4").tolist() == [-1, -1]
    assert response.outputs[1].parameters["shared_memory_byte_size"].int64_param == 8


@pytest.mark.usefixtures("region")
def test_strings_and_classes_travel_through_memory(stub: Any, memory: SharedMemory) -> None:
    raw = b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    put(memory, 0, raw)
    message = pb.ModelInferRequest(model_name="words")
    place(message.inputs.add(name="x", datatype="BYTES", shape=[1, 2]).parameters, len(raw))
    place(message.outputs.add(name="y").parameters, 100, 200)
    stub.ModelInfer(message)
    assert at(memory, 200, len(raw)) == raw
    classes = request(None, (100, 300))
    classes.outputs[0].parameters["classification"].int64_param = 1
    stub.ModelInfer(classes)
    assert at(memory, 300, 14) == b"\x0a\x00\x00\x008.000000:3"


@pytest.mark.usefixtures("region")
def test_a_stream_takes_tensors_in_memory(stub: Any, memory: SharedMemory) -> None:
    put(memory, 0, ROW.tobytes())
    (answer,) = stub.ModelStreamInfer(iter([request((16,), (16, 500))]), timeout=TIMEOUT_S)
    assert answer.error_message == ""
    assert at(memory, 500, 16) == (2 * ROW).tobytes()


@pytest.mark.usefixtures("region")
def test_a_region_that_is_registered_again_is_the_one_that_is_used(stub: Any, memory: SharedMemory) -> None:
    """The head of both requests is the same, bit for bit."""
    stub.ModelInfer(request(None, (16,)))
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="region"))
    code, details = refusal(lambda: stub.ModelInfer(request(None, (16,))))
    assert (code, 'no shared memory region "region"' in details) == ("NOT_FOUND", True)
    register(stub, memory, offset=600)
    stub.ModelInfer(request(None, (16,)))
    assert at(memory, 500, 16) == (2 * ROW).tobytes()


@pytest.mark.usefixtures("region")
def test_status_lists_the_regions(stub: Any, memory: SharedMemory) -> None:
    register(stub, memory, name="other", offset=0, byte_size=1)

    def status(name: str) -> list[tuple[str, str, int, int]]:
        regions = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name=name)).regions
        assert all(key == each.name for key, each in regions.items())
        return sorted((each.name, each.key, each.offset, each.byte_size) for each in regions.values())

    other, region = ("other", f"/{memory.name}", 0, 1), ("region", f"/{memory.name}", 100, 1000)
    assert status("") == [other, region]
    assert status("region") == [region]
    assert refusal(lambda: status("none"))[0] == "NOT_FOUND"
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="none"))
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    assert status("") == []


WRONG_PLACES: dict[str, tuple[pb.ModelInferRequest, str, str]] = {
    "an unknown region": (request((16, 0, "none")), "NOT_FOUND", 'no shared memory region "none"'),
    "an unknown region for an output": (request(None, (16, 0, "none")), "NOT_FOUND", 'no shared memory region "none"'),
    "an input beyond the end": (request((16, 985)), "INVALID_ARGUMENT", "16 bytes at 985 are not inside"),
    "an output beyond the end": (request(None, (16, 985)), "INVALID_ARGUMENT", "16 bytes at 985 are not inside"),
    "a negative offset": (request((16, -16)), "INVALID_ARGUMENT", "16 bytes at -16 are not inside"),
    "a negative size": (request((-16,)), "INVALID_ARGUMENT", "-16 bytes at 0 are not inside"),
    "no size": (request((None,)), "INVALID_ARGUMENT", "expected shared_memory_byte_size in bytes, as int64_param"),
    "too few bytes for the shape": (request((12,)), "INVALID_ARGUMENT", "12 raw bytes; its shape and datatype make 16"),
    "too little room for the output": (request(None, (15,)), "INVALID_ARGUMENT", "output doubled has 16 bytes; 15 are"),
    "bytes in the message besides": (
        request((16,), raw_input_contents=[ROW.tobytes()]),
        "INVALID_ARGUMENT",
        "1 of 1 inputs are in shared memory and 1 buffers",
    ),
}


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(("sent", "code", "said"), WRONG_PLACES.values(), ids=WRONG_PLACES)
def test_a_wrong_place_is_refused_and_nothing_is_written(
    server: Any, stub: Any, memory: SharedMemory, sent: pb.ModelInferRequest, code: str, said: str
) -> None:
    before = bytes(memory.buf)
    found, details = refusal(lambda: stub.ModelInfer(sent, timeout=TIMEOUT_S))
    assert (found, said in details) == (code, True), details
    assert bytes(memory.buf) == before
    assert [event for event in server.events() if event["level"] == "error"] == []


def test_more_bytes_than_may_be_in_flight_are_never_read(stub: Any, memory: SharedMemory) -> None:
    register(stub, memory, byte_size=1024 * 1024 + 512)
    rows = 1024 * 64 + 32
    sent = request((rows * 16,))
    sent.inputs[0].shape[:] = [rows, 4]
    code, details = refusal(lambda: stub.ModelInfer(sent))
    said = "the inputs have 1,049,088 bytes in shared memory; at most 1,048,576 are read"
    assert (code, said in details) == ("INVALID_ARGUMENT", True), details
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())


def test_of_cuda_shared_memory_nothing_can_be_registered_and_nothing_is(stub: Any) -> None:
    code, details = refusal(lambda: stub.CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest(name="region")))
    assert (code, "CUDA shared memory is not served" in details) == ("UNIMPLEMENTED", True)
    for name in ("", "region"):
        stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest(name=name))
    assert len(stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()).regions) == 0
    assert (
        refusal(lambda: stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest(name="region")))[0] == "NOT_FOUND"
    )


def test_cuda_shared_memory_over_http_answers_as_over_grpc(server: Any, call_http: Callable[..., Any]) -> None:
    region = "/v2/cudasharedmemory/region/pictures"
    registered = call_http(server, f"{region}/register", {"raw_handle": {"b64": "bm9uZQ=="}, "byte_size": 8})
    assert (registered.status, "CUDA shared memory is not served" in registered.error) == (501, True)
    assert call_http(server, "/v2/cudasharedmemory/status").json == []
    assert call_http(server, f"{region}/status").status == 404
    assert call_http(server, "/v2/cudasharedmemory/unregister", b"").status == 200
    assert call_http(server, f"{region}/unregister", b"").status == 200


def test_tensors_of_http_requests_travel_through_memory(
    server: Any, memory: SharedMemory, call_http: Callable[..., Any]
) -> None:
    key, region = f"/{memory.name}", "/v2/systemsharedmemory/region/over http"
    path = region.replace(" ", "%20")
    assert call_http(server, f"{path}/register", {"key": key, "offset": 100, "byte_size": 1000}).status == 200
    registered = {"name": "over http", "key": key, "offset": 100, "byte_size": 1000}
    assert call_http(server, "/v2/systemsharedmemory/status").json == [registered]
    assert call_http(server, f"{path}/status").json == [registered]
    assert call_http(server, f"{path}/register", {"key": key, "byte_size": 1}).status == 409
    put(memory, 8, ROW.tobytes())
    there = {"shared_memory_region": "over http", "shared_memory_byte_size": 16, "shared_memory_offset": 8}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 4]}
    answer = call_http(server, "/v2/models/doubler/infer", {"inputs": [{**values, "parameters": there}]}).json
    assert answer["outputs"][0]["data"] == [2, 4, 6, 8]
    # The other way round, with the binary answer that tritonclient asks for unless told otherwise.
    wanted = {"name": "doubled", "parameters": there | {"shared_memory_offset": 500}}
    sent = {
        "inputs": [values | {"data": [1, 2, 3, 4]}],
        "outputs": [wanted],
        "parameters": {"binary_data_output": True},
    }
    (output,) = call_http(server, "/v2/models/doubler/infer", sent).json["outputs"]
    assert output == {
        **{"name": "doubled", "datatype": "FP32", "shape": [1, 4]},
        "parameters": there | {"shared_memory_offset": 500},
    }
    assert at(memory, 500, 16) == (2 * ROW).tobytes()
    assert call_http(server, f"{path}/unregister", b"").status == 200
    assert call_http(server, "/v2/systemsharedmemory/unregister", b"").status == 200
    assert call_http(server, f"{path}/status").status == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"key": "k", "byte_size": -1}, "byte_size must be a number of bytes", id="a negative size"),
        pytest.param({"key": "k", "byte_size": 2**64}, "byte_size must be a number of bytes", id="a huge size"),
        pytest.param({"key": "k", "byte_size": "8"}, "byte_size must be a number of bytes", id="text"),
        pytest.param({"key": "k", "byte_size": 8, "offset": True}, "offset must be a number of bytes", id="a flag"),
        pytest.param({"key": 8, "byte_size": 8}, "key must be a string", id="a number for a key"),
        pytest.param({"key": "a\0b", "byte_size": 8}, "expected a name without slashes", id="NUL in the key"),
        pytest.param({"key": "\ud800", "byte_size": 8}, "the body is not JSON", id="half a character"),
        pytest.param([], "not an object", id="no object"),
    ],
)
def test_a_wrong_registration_over_http_says_what_is_wrong(
    server: Any, call_http: Callable[..., Any], body: Any, said: str
) -> None:
    answer = call_http(server, "/v2/systemsharedmemory/region/wrong/register", body)
    assert (answer.status, said in answer.error) == (400, True), answer.error


def test_an_input_in_memory_and_in_the_body_is_refused(
    server: Any, call_http: Callable[..., Any], stub: Any, memory: SharedMemory
) -> None:
    register(stub, memory)
    there = {"shared_memory_region": "region", "shared_memory_byte_size": 16}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], "parameters": there}
    answer = call_http(server, "/v2/models/doubler/infer", {"inputs": [values]})
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    assert (answer.status, "1 of 1 inputs are in shared memory and 1 buffers" in answer.error) == (400, True)


def test_shared_memory_is_off_unless_it_is_switched_on(
    start_server: Callable[..., Any], repository: Path, memory: SharedMemory
) -> None:
    server = start_server(repository)
    stub = server.stub()
    assert "system_shared_memory" not in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
    for method in ("Status", "Register", "Unregister"):
        message = getattr(pb, f"SystemSharedMemory{method}Request")(name="region")
        code, details = refusal(lambda: getattr(stub, f"SystemSharedMemory{method}")(message))  # noqa: B023  called in the same turn
        assert (code, "--system-shared-memory" in details) == ("UNIMPLEMENTED", True)
    for sent in (request((16,)), request(None, (16,))):
        code, details = refusal(lambda: stub.ModelInfer(sent))  # noqa: B023  called in the same turn
        assert (code, "--system-shared-memory" in details) == ("NOT_FOUND", True)
