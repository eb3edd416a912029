"""Scrapes at bad times: during the drain, and far too many. Serving is not affected."""

import signal
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.observe.connections import MAX_CONNECTIONS

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
FLOOD = 400
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Start = Callable[..., Any]


def page(server: Any) -> list[str]:
    """Returns the lines of the metrics page, in the format that has a last line."""
    request = urllib.request.Request(server.metrics, headers={"Accept": OPENMETRICS})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode()).splitlines()


def value(lines: list[str], name: str) -> float:
    """Returns the value of a sample, of which there is one, or of them all together."""
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def connect(server: Any) -> socket.socket:
    host, _, port = urlsplit(server.metrics).netloc.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def test_scrapes_during_a_drain_are_whole_and_the_last_sees_the_last_request(
    tmp_path: Path,
    write_patient_model: Callable[..., None],
    start_server: Start,
    make_request: Any,
    eventually: Callable[..., None],
) -> None:
    """Timeline: 1. two requests wait, five seconds at most, for a third; 2. the server is told to stop; 3. a scrape
    shows them waiting; 4. they are answered; 5. a scrape shows that, and refused requests; 6. the process ends, and so
    does the port."""
    write_patient_model(tmp_path / "repository" / "patient", rows=3, delay_s=5)
    server = start_server(tmp_path / "repository")
    stub = server.stub()
    accepted = [stub.ModelInfer.future(make_request("patient", id=str(index))) for index in range(2)]
    eventually(lambda: server.pending() == 2)
    server.process.send_signal(signal.SIGTERM)

    def is_refused() -> bool:
        """Returns whether a call is refused; a refused call keeps a stopping server for a moment longer."""
        try:
            stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False

    eventually(is_refused)
    during = page(server)
    assert during[-1] == "# EOF"
    assert value(during, "nv_inference_pending_request_count{") == 2
    assert value(during, "nv_inference_request_success{") == 0
    assert [each.result(TIMEOUT_S).id for each in accepted] == ["0", "1"]

    def sees_all() -> bool:
        assert is_refused()
        last = page(server)
        assert last[-1] == "# EOF"
        return (
            value(last, "nv_inference_request_success{") == 2
            and value(last, 'pixelserve_requests_total{code="OK",method="ModelInfer"') == 2
            and value(last, 'pixelserve_requests_total{code="UNAVAILABLE"') > 0
        )

    eventually(sees_all)
    assert server.process.wait(TIMEOUT_S) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_the_end_waits_for_a_scrape_that_came_and_not_for_a_connection_that_says_nothing(
    doubler_repository: Path, start_server: Start, make_request: Any
) -> None:
    """Timeline: 1. a request is answered; 2. two connections are there, of which one has sent most of a scrape; 3. the
    server stops, and what it has got by then is answered, with a page that is whole; 4. the process ends with 0."""
    server = start_server(doubler_repository)
    server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S)
    with connect(server) as silent, connect(server) as scrape:
        scrape.sendall(f"GET /metrics HTTP/1.1\r\nAccept: {OPENMETRICS}\r\n".encode())
        # Both are taken up: connections are in the order of their arrival.
        assert page(server)
        assert server.stop() == 0
        lines = b"".join(iter(lambda: scrape.recv(65536), b"")).decode().splitlines()
        assert silent.recv(1) == b""
    assert lines[-1] == "# EOF"
    assert value(lines, "nv_inference_request_success{") == 1
    assert [line for line in server.lines if not line.startswith("{")] == []


REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
# Data of the flood's connections, in turn. Only the last one leaves, and none reads its answer.
SENT = {
    "a scrape": REQUEST,
    "nothing": b"",
    "half a line": b"GET /metr",
    "half a head": REQUEST[:-4],
    "a head without an end": b"GET /metrics HTTP/1.1\r\nAccept: " + b"x" * 100_000,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "a scrape, and leaves": REQUEST,
}


@pytest.fixture
def flood() -> Iterator[Callable[[Any], list[socket.socket]]]:
    """Opens hundreds of connections to a server's metrics port, which stay open until the test ends."""
    held: list[socket.socket] = []

    def begin(server: Any) -> list[socket.socket]:
        for number in range(FLOOD):
            kind, sent = list(SENT.items())[number % len(SENT)]
            connection = connect(server)
            # One too many is not read to its end.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
            if kind.endswith("leaves"):
                # With a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            else:
                held.append(connection)
        return held

    yield begin
    for connection in held:
        connection.close()


def threads(server: Any) -> int:
    """Returns how many threads the server's process has, as the system counts them."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Threads:")).split()[1])


def received(connection: socket.socket) -> bytes:
    """Returns what has come on a connection that the other side has closed."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def test_a_flood_of_scrapes_costs_no_inference_and_ends_by_itself(
    doubler_repository: Path,
    start_server: Start,
    make_request: Any,
    flood: Callable[[Any], list[socket.socket]],
    eventually: Callable[..., None],
) -> None:
    """Timeline: 1. hundreds of connections come, and none leaves; 2. inferences are answered meanwhile; 3. the
    connections were answered, refused, or cut off; 4. scrapes and probes work as before, and all was counted."""
    server = start_server(doubler_repository)
    stub = server.stub()

    def infer(number: int) -> bool:
        """Returns whether a new request gets its own result."""
        values = np.arange(4, dtype=np.float32)[None] + number
        answer = stub.ModelInfer(make_request(id=str(number), raw=[values.tobytes()]), timeout=TIMEOUT_S)
        return bool(answer.id == str(number) and answer.raw_output_contents[0] == (values * 2).tobytes())

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(server.metrics.replace("/metrics", "/ready"), timeout=TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, ConnectionResetError):
            return False

    assert all(infer(number) for number in range(100))
    before = threads(server)
    held = flood(server)
    # A thread or two may be gRPC's.
    assert threads(server) - before <= MAX_CONNECTIONS + 2
    assert all(infer(number) for number in range(100, 600))

    eventually(is_ready, timeout_s=TIMEOUT_S)
    eventually(lambda: threads(server) - before <= 2, timeout_s=TIMEOUT_S)
    # Cut off, answered, or refused: of the head without an end or as one too many.
    statuses = {received(each)[9:12] for each in held}
    assert {b"", b"200", b"503"} <= statuses <= {b"", b"200", b"503", b"431", b"400"}
    lines = page(server)
    assert lines[-1] == "# EOF"
    assert value(lines, "nv_inference_request_success{") == 600
    assert server.stop() == 0
    # No line that is not ours, and none that says that something is wrong.
    assert [line for line in server.lines if not line.startswith("{")] == []
    assert [event for event in server.events() if event["level"] == "error"] == []
