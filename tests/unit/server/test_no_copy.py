"""The pixels of a large request that runs alone reach ONNX Runtime without a copy."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from limits import LIMITS

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.codec import SMALL_BYTES
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.infer import ModelInfer
from pixelserve_server.deadline import Deadline
from pixelserve_server.engine.providers.onnx_runtime import OnnxRuntime
from pixelserve_server.engine.regions import Regions
from pixelserve_server.failures import FailureLog
from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport import Services
from pixelserve_server.transport.grpcio import GrpcioTransport
from pixelserve_server.transport.h2corn import H2cornTransport

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# More than a message that protobuf parses as it is.
ROWS = np.arange(2 * SMALL_BYTES).reshape(2, SMALL_BYTES) % 100


def fail(error: BaseException) -> str:
    raise AssertionError("something failed") from error


def grpcio_transport() -> Any:
    return GrpcioTransport(
        max_calls=2, max_streamed=0, max_message_bytes=1 << 20, max_streams=10, supervisor=Supervisor(FailureLog(None))
    )


def h2corn_transport() -> Any:
    return H2cornTransport(LIMITS, fail)


@pytest.fixture
def catalogue(
    graph_writer: Callable[..., Path], open_catalogue: Callable[[Path], SimpleNamespace], tmp_path: Path
) -> Any:
    """Two loaded models that return their inputs: `pixels` of bytes and `floats`."""
    for name, kind in (("pixels", "UINT8"), ("floats", "FLOAT")):
        tensor = (kind, ["N", SMALL_BYTES])
        graph_writer(tmp_path / name / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
    return open_catalogue(tmp_path).catalogue


class Seen:
    """The transport's buffers and ONNX Runtime's inputs, request by request."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.arrays: list[Any] = []

    def shared(self) -> list[bool]:
        """Returns for each request whether its array lies in its message."""
        return [
            np.shares_memory(array, np.frombuffer(message, np.uint8))
            for message, array in zip(self.messages, self.arrays, strict=True)
        ]


@pytest.fixture
def seen(catalogue: Any, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Watches ONNX Runtime from here on: the models are loaded and warm."""
    seen, run = Seen(), OnnxRuntime.run

    def watched(session: Any, inputs: dict[str, Any], options: Any = None) -> Any:
        seen.arrays.append(inputs["x"])
        return run(session, inputs, options)

    monkeypatch.setattr(OnnxRuntime, "run", watched)
    return seen


@pytest.fixture(params=[grpcio_transport, h2corn_transport])
def stub(request: pytest.FixtureRequest, catalogue: Any, seen: Seen) -> Iterator[GRPCInferenceServiceStub]:
    """A client of a transport in front of the real handler and engine."""
    handler, admission = ModelInfer(catalogue, Regions()), Admission(1 << 20)

    def handle(message: bytes, call: Any) -> None:
        seen.messages.append(message)
        handler(message, call)

    dispatcher = Dispatcher({METHOD: handle}, admission, CallGuard(fail))
    transport = request.param()
    address = transport.bind("127.0.0.1", 0)
    transport.start(Services(dispatcher, admission))
    with grpc.insecure_channel(address) as channel:
        yield GRPCInferenceServiceStub(channel)
    transport.stop(Deadline.after(1))


def send(stub: GRPCInferenceServiceStub, model: str, datatype: str, rows: Any, identity: str) -> None:
    """Sends rows as raw bytes, and checks that they come back."""
    request = pb.ModelInferRequest(model_name=model, id=identity, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype=datatype, shape=rows.shape)
    answer = stub.ModelInfer(request, timeout=20)
    assert answer.raw_output_contents[0] == rows.tobytes()


def test_pixels_lie_in_the_message_that_came(stub: GRPCInferenceServiceStub, seen: Seen) -> None:
    # The first is parsed; the others' heads are known by then, with other ids and pixels.
    for number in range(4):
        send(stub, "pixels", "UINT8", (ROWS + number).astype(np.uint8), "x" * number)
    assert seen.shared() == [True] * 4


def test_floats_are_copied_only_where_they_are_not_aligned(stub: GRPCInferenceServiceStub, seen: Seen) -> None:
    # Each id is a byte longer, so one in four tensors is aligned for floats.
    for number in range(1, 9):
        send(stub, "floats", "FP32", (ROWS + number).astype(np.float32), "x" * number)
    places = [
        message.index((ROWS + number + 1).astype(np.float32).tobytes()) for number, message in enumerate(seen.messages)
    ]
    starts = [np.frombuffer(message, np.uint8).ctypes.data for message in seen.messages]
    aligned = [(start + place) % 4 == 0 for start, place in zip(starts, places, strict=True)]
    assert sum(aligned) == 2
    assert seen.shared() == aligned
    assert all(array.flags.aligned for array in seen.arrays)
