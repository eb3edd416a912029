"""Idle connections, against grpcio's server."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest

from benchmarks.compare import frames
from benchmarks.compare.bare import BareServicer
from benchmarks.compare.bodies import grpc_message, infer_request, mnist_images, single_thread_session
from benchmarks.compare.errors import LoadError
from benchmarks.compare.held import held_repository, held_request
from benchmarks.compare.tls import write_certificate
from benchmarks.compare.waiting import WaitingConnection
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc as pb_grpc


class Gate(BareServicer):
    """Answers once it may; refuses requests that name no model."""

    def __init__(self) -> None:
        super().__init__(single_thread_session())
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        self.may_answer.wait()
        if not request.model_name:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return super().ModelInfer(request, context)


Start = Callable[..., tuple[Gate, int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server; returns its servicer and its port."""
    with ExitStack() as stack:

        def serve(credentials: grpc.ServerCredentials | None = None) -> tuple[Gate, int]:
            gate, server = Gate(), grpc.server(ThreadPoolExecutor(2))
            pb_grpc.add_GRPCInferenceServiceServicer_to_server(gate, server)
            at = "127.0.0.1:0"
            port = server.add_secure_port(at, credentials) if credentials else server.add_insecure_port(at)
            server.start()
            stack.callback(lambda: server.stop(None).wait())
            stack.callback(gate.may_answer.set)
            return gate, port

        yield serve


@pytest.fixture(scope="module")
def message() -> bytes:
    return grpc_message(infer_request(mnist_images()[:1]).SerializeToString())


def block(port: int) -> bytes:
    return frames.header_block(f"127.0.0.1:{port}")


def test_a_connection_waits_after_its_calls_were_answered(start: Start, message: bytes) -> None:
    _, port = start()
    with WaitingConnection(port) as connection:
        # More than the window of a connection that no frame has made larger.
        connection.send(block(port), message, 100)
        connection.answers(100)
        connection.ping()
        assert connection.answered == 100


def test_calls_are_held_until_the_server_answers(start: Start, message: bytes) -> None:
    gate, port = start()
    gate.may_answer.clear()
    with WaitingConnection(port) as connection:
        connection.send(block(port), message, 3)
        connection.ping()
        assert connection.answered == 0
        gate.may_answer.set()
        connection.answers(3)


def test_a_refused_call_is_not_an_answer(start: Start) -> None:
    _, port = start()
    with WaitingConnection(port) as connection:
        connection.send(block(port), grpc_message(b""))
        with pytest.raises(LoadError, match=f"grpc-status {grpc.StatusCode.NOT_FOUND.value[0]}"):
            connection.answers(1)


def test_a_connection_with_tls_trusts_the_certificate_of_the_run(start: Start, message: bytes, tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    pair = key.read_bytes(), cert.read_bytes()
    _, port = start(grpc.ssl_server_credentials([pair]))
    with WaitingConnection(port, cert) as connection:
        connection.send(block(port), message)
        connection.answers(1)
    (tmp_path / "other").mkdir()
    other, _ = write_certificate(tmp_path / "other")
    with pytest.raises(LoadError, match="could not connect"):
        WaitingConnection(port, other)


def test_a_server_that_is_gone_is_an_error() -> None:
    with pytest.raises(LoadError, match="could not connect to port 1"):
        WaitingConnection(1)


def test_the_model_of_held_calls_takes_its_request() -> None:
    with held_repository() as place:
        model = onnx.load(place / "held" / "1" / "model.onnx")
        onnx.checker.check_model(model, full_check=True)
        (tensor,) = model.graph.input
        request = held_request()
    assert (tensor.name, tensor.type.tensor_type.shape.dim[1].dim_value) == ("x", request.inputs[0].shape[1])
    assert len(request.raw_input_contents[0]) == 784
