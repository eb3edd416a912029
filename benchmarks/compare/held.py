"""The cost of waiting clients: the server's memory per idle connection, and per queued call."""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from pixelserve.oip import inference_pb2 as pb

from . import frames, ours, tls
from .bodies import grpc_message, infer_request, mnist_images
from .errors import LoadError
from .figures import OURS_GRPCIO, OURS_TLS, Figure, Kind, Measurement, Round, Values
from .ours import Transport
from .process import Server
from .setup import Setup
from .waiting import WaitingConnection

FEW, MANY = 200, 1_200
"""Waiting connections or calls per memory measurement; the first reuse memory that earlier work freed."""
CALL_CONNECTIONS = 4
# Measure memory after the server has finished its work for a frame or an answer.
SETTLE_S = 0.5
OPEN_FILES = 4 * MANY
HELD_MODEL = "held"
# As many bytes as an MNIST image.
_VALUES = 196
_CONFIG = """
max_batch_size: 4096
dynamic_batching {
  max_queue_delay_microseconds: 3600000000
  default_queue_policy { max_queue_size: 4096 }
}
"""


def rounds(setup: Setup, figure: Figure, say: Callable[[str], None]) -> list[Round]:
    """Measures both sides of a figure on fresh servers, once: two rounds differed by half a percent.

    Raises:
        LoadError: a waiting connection was closed, or a waiting call answered.
        ServerError: a server did not start.
    """
    _allow_open_files()
    say(figure.title)
    return [{wanted: _measure(setup, wanted) for wanted in figure.in_turn(0)}]


def _allow_open_files() -> None:
    """Raises this process's limit, which servers inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def _measure(setup: Setup, wanted: Measurement) -> Values:
    with ExitStack() as stack:
        if wanted.kind == Kind.IDLE:
            server = stack.enter_context(_serve(setup, wanted.server))
            return {"kib_each": _idle_kib(server, stack)}
        place = stack.enter_context(held_repository())
        options = ["--no-limit-batches"]
        transport = _transport(setup, wanted.server)
        server = stack.enter_context(
            ours.serve(wanted.server, setup.cores, transport, repository=place, options=options)
        )
        return {"kib_each": _held_kib(server, stack)}


def _transport(setup: Setup, name: str) -> Transport:
    return Transport.GRPCIO if name == OURS_GRPCIO else setup.transport


def _serve(setup: Setup, name: str) -> AbstractContextManager[Server]:
    if name == OURS_TLS:
        return tls.serve(name, setup.cores, setup.transport)
    return ours.serve(name, setup.cores, _transport(setup, name))


def _idle_kib(server: Server, stack: ExitStack) -> float:
    block = frames.header_block(f"127.0.0.1:{server.port}")
    message = grpc_message(infer_request(mnist_images()[:1]).SerializeToString())
    connections: list[WaitingConnection] = []

    def grow(count: int) -> None:
        while len(connections) < count:
            connection = stack.enter_context(WaitingConnection(server.port, server.ca))
            connection.send(block, message)
            connection.answers(1)
            connections.append(connection)

    return _kib_each(server, grow)


def _held_kib(server: Server, stack: ExitStack) -> float:
    block = frames.header_block(f"127.0.0.1:{server.port}")
    message = grpc_message(held_request().SerializeToString())
    connections = [stack.enter_context(WaitingConnection(server.port)) for _ in range(CALL_CONNECTIONS)]
    sent = 0

    def grow(count: int) -> None:
        nonlocal sent
        for connection in connections:
            connection.send(block, message, (count - sent) // CALL_CONNECTIONS)
        sent = count
        for connection in connections:
            connection.ping()
            if connection.answered:
                raise LoadError("the server answered a call that should wait in its queue")

    return _kib_each(server, grow)


def _kib_each(server: Server, grow: Callable[[int], None]) -> float:
    resident_kib: list[int] = []
    for count in (FEW, MANY):
        grow(count)
        time.sleep(SETTLE_S)
        resident_kib.append(server.resident_kib())
    return (resident_kib[1] - resident_kib[0]) / (MANY - FEW)


@contextmanager
def held_repository() -> Iterator[Path]:
    """Yields a repository with one model whose requests wait up to an hour for others: y = 2 x, [n, 196] FP32."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        folder = Path(place) / HELD_MODEL
        (folder / "1").mkdir(parents=True)
        (folder / "config.pbtxt").write_text(_CONFIG)
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", _VALUES]) for name in ("x", "y")]
        two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "two"], ["y"])], HELD_MODEL, tensors[:1], tensors[1:], [two]
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        onnx.save(model, folder / "1" / "model.onnx")
        yield Path(place)


def held_request() -> pb.ModelInferRequest:
    """Returns a one-row request for that model."""
    request = pb.ModelInferRequest(model_name=HELD_MODEL, raw_input_contents=[bytes(4 * _VALUES)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, _VALUES])
    return request
