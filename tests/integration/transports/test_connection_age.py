"""Connection age: old connections are replaced unnoticed, and new servers get their share."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from busy_clients import LOST_IDLE, Clients, grpc_client, http_client

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow
# Mutual TLS sends no other bytes than TLS.
ENCRYPTED = pytest.mark.parametrize("security", ["plain", "tls"], indirect=True)
IN_THE_CLEAR = pytest.mark.parametrize("security", ["plain"], indirect=True)

TIMEOUT_S = 60
REPLACEMENTS = 3
AGE = ("--max-connection-age-s", "2")


@pytest.fixture
def doubler(tmp_path: Path, model_writer: Callable[..., Path]) -> Path:
    model_writer(tmp_path / "models" / "doubler" / "1" / "model.onnx")
    return tmp_path / "models"


@ENCRYPTED
def test_clients_lose_nothing_while_their_connections_are_replaced(
    serve: Any, forward: Any, doubler: Path, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. six clients of gRPC and three of HTTP each have a connection; 2. each has had more, again and again;
    3. every call was answered."""
    served = serve(doubler, *AGE)
    message = make_request().SerializeToString()
    ways = [forward(served.process.grpc) for _ in range(6)] + [forward(urlsplit(served.process.http).netloc)] * 3
    with Clients() as clients:
        for number, way in enumerate(ways):
            clients.add(
                grpc_client(served, way.address, message) if number < 6 else http_client(clients, served, way.address)
            )
        wanted = {way: REPLACEMENTS * ways.count(way) + ways.count(way) for way in ways}
        eventually(lambda: all(way.accepted >= wanted[way] for way in ways), timeout_s=TIMEOUT_S)
    assert clients.outcomes.keys() - {LOST_IDLE} == {"gRPC OK", "HTTP 200"}, clients.outcomes


@IN_THE_CLEAR
def test_a_server_that_comes_later_gets_its_share(
    serve: Any, forward: Any, doubler: Path, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. eight clients have their connections to the only server; 2. another joins it; 3. a quarter of the
    connections at least is to either; 4. every call was answered."""
    first = serve(doubler, *AGE)
    service = forward(first.process.grpc)
    message = make_request().SerializeToString()
    with Clients() as clients:
        for _ in range(8):
            clients.add(grpc_client(first, service.address, message))
        eventually(lambda: service.open_to(first.process.grpc) >= 8, timeout_s=TIMEOUT_S)
        second = serve(doubler, *AGE)
        service.targets = (first.process.grpc, second.process.grpc)
        eventually(lambda: min(service.open_to(target) for target in service.targets) >= 2, timeout_s=TIMEOUT_S)
    assert clients.outcomes.keys() == {"gRPC OK"}, clients.outcomes
    assert second.metric("nv_inference_request_success", model="doubler") > 0


@IN_THE_CLEAR
def test_a_stream_goes_on_while_other_connections_are_replaced(
    serve: Any, forward: Any, doubler: Path, make_request: Any, eventually: Any
) -> None:
    served = serve(doubler, *AGE)
    service = forward(served.process.grpc)
    go_on, message = threading.Event(), make_request().SerializeToString()

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield make_request(id="young")
        assert go_on.wait(TIMEOUT_S)
        yield make_request(id="old")

    stream = served.stub().ModelStreamInfer(requests(), timeout=2 * TIMEOUT_S)
    assert next(stream).infer_response.id == "young"
    with Clients() as clients:
        clients.add(grpc_client(served, service.address, message))
        eventually(lambda: service.accepted > REPLACEMENTS, timeout_s=TIMEOUT_S)
    go_on.set()
    assert [answer.infer_response.id for answer in stream] == ["old"]
    assert stream.code() is grpc.StatusCode.OK
