"""The metrics port's connections: bounded in number, time and size."""

import gzip
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest

from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.connections import MAX_CONNECTIONS, MAX_HEAD_BYTES
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.observe.port import MetricsServer

TIMEOUT_S = 30
# Longer than any test: the tests end connections themselves.
HOUR_S = 3600.0
REQUEST = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"

Address = tuple[str, int]
Serve = Callable[..., Address]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a metrics port on loopback and returns its address."""
    servers: list[MetricsServer] = []

    def start(
        *, timeout_s: float = HOUR_S, ready: Callable[[], bool] = lambda: True, metrics: Metrics | None = None
    ) -> Address:
        servers.append(MetricsServer(metrics or Metrics(), ready, FailureLog(None), timeout_s=timeout_s))
        host, _, port = servers[-1].bind("127.0.0.1", 0).rpartition(":")
        return host, int(port)

    yield start
    for server in servers:
        server.close()


def connect(address: Address, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(address, timeout=TIMEOUT_S)
    connection.sendall(sent)
    return connection


def read(connection: socket.socket) -> bytes:
    """Returns all bytes until the other side closes or resets the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def ask(address: Address, path: str = "/live", **headers: str) -> tuple[int, bytes]:
    """Returns the status and the body of a page."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def crowd() -> Iterator[Callable[..., list[socket.socket]]]:
    """Opens connections that are closed after the test."""
    with ExitStack() as stack:

        def open_many(address: Address, count: int, sent: bytes = b"") -> list[socket.socket]:
            return [stack.enter_context(connect(address, sent)) for _ in range(count)]

        yield open_many


def _threads_since(before: set[threading.Thread]) -> int:
    """Returns how many threads have been started since and live; those of other tests may end meanwhile."""
    return len(set(threading.enumerate()) - before)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GE"], ids=["silent", "half a line"])
def test_connections_that_ask_for_nothing_make_room_the_oldest_first(
    serve: Serve, crowd: Callable[..., list[socket.socket]], eventually: Callable[..., None], sent: bytes
) -> None:
    address = serve()
    before = set(threading.enumerate())
    held = crowd(address, MAX_CONNECTIONS + 3, sent)
    assert [read(each) for each in held[:3]] == [b""] * 3
    for _ in range(2):
        assert ask(address) == (200, b"live\n")
        # Only a connection whose thread has ended leaves its place to the next.
        eventually(lambda: _threads_since(before) < MAX_CONNECTIONS)
    # One made room for the two that asked, one after the other, and the others are still there.
    assert read(held[3]) == b""
    held[4].sendall(REQUEST[len(sent) :])
    assert read(held[4]).endswith(b"live\n")


@pytest.mark.slow
def test_a_connection_too_many_gets_an_error_and_one_that_leaves_makes_room(
    serve: Serve, crowd: Callable[..., list[socket.socket]], eventually: Callable[..., None]
) -> None:
    asked, may_answer = threading.Semaphore(0), threading.Event()

    def ready() -> bool:
        asked.release()
        return may_answer.wait(TIMEOUT_S)

    address = serve(ready=ready)
    before = set(threading.enumerate())
    waiting = crowd(address, MAX_CONNECTIONS, b"GET /ready HTTP/1.1\r\n\r\n")
    assert all(asked.acquire(timeout=TIMEOUT_S) for _ in waiting)
    refused = [read(each) for each in crowd(address, 300)]
    # The maximum number is served; all others get an error.
    head, _, body = refused[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 503 ")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert body == b"the metrics port serves 32 connections at once, and has them; try later\n"
    assert set(refused) == {refused[0]}
    assert _threads_since(before) == MAX_CONNECTIONS
    may_answer.set()
    assert {read(each)[-12:] for each in waiting} == {b"ready: true\n"}
    eventually(lambda: ask(address) == (200, b"live\n"))


HALF = b"GET /metrics HTTP/1.1\r\nAccept"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GE", HALF], ids=["silent", "half a line", "half a head"])
def test_connections_that_do_not_go_on_are_cut_off(
    serve: Serve, crowd: Callable[..., list[socket.socket]], eventually: Callable[..., None], sent: bytes
) -> None:
    address = serve(timeout_s=0.3)
    before = set(threading.enumerate())
    held = crowd(address, MAX_CONNECTIONS, sent)
    assert {read(each) for each in held} == {b""}
    eventually(lambda: ask(address) == (200, b"live\n"))
    eventually(lambda: _threads_since(before) == 0)


@pytest.mark.slow
def test_a_sender_of_a_byte_now_and_then_is_cut_off(serve: Serve) -> None:
    """A timeout for each read would never come."""
    with connect(serve(timeout_s=0.3), b"GET /") as connection:
        connection.settimeout(0.02)

        def is_cut_off() -> bool:
            try:
                connection.sendall(b"x")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True

        # As many bytes as a minute takes, which are fewer than a head may have.
        assert any(is_cut_off() for _ in range(3000))


@pytest.mark.slow
def test_a_reader_that_does_not_read_is_cut_off(serve: Serve, eventually: Callable[..., None]) -> None:
    metrics = Metrics()
    # Far more than the buffers of a connection hold.
    name = "x" * 20_000_000
    metrics.load_failed(name, 1)
    address = serve(timeout_s=2, metrics=metrics)
    before = set(threading.enumerate())
    with connect(address, b"GET /metrics HTTP/1.1\r\n\r\n") as connection:
        eventually(lambda: _threads_since(before) > 0)
        eventually(lambda: _threads_since(before) == 0, timeout_s=TIMEOUT_S)
        assert len(read(connection)) < len(name)


SENTENCE = b"the first line and the headers may have 16384 bytes; send fewer\n"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(b"GET /" + b"a" * MAX_HEAD_BYTES, SENTENCE, id="a line without an end"),
        pytest.param(b"GET /live HTTP/1.1\r\nA: " + b"b" * MAX_HEAD_BYTES, SENTENCE, id="a header without an end"),
        pytest.param(
            b"GET /live HTTP/1.1\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 17, SENTENCE, id="headers without an end"
        ),
        pytest.param(b"GET /live HTTP/1.1\r\n" + b"A: b\r\n" * 101, b"more than 100 headers", id="many headers"),
    ],
)
def test_a_head_that_is_too_long_is_refused(serve: Serve, sent: bytes, said: bytes) -> None:
    address = serve()
    with connect(address, sent) as connection:
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.0 431 ")
    assert said in answer
    assert ask(address) == (200, b"live\n")


def test_a_head_just_as_long_as_it_may_be_is_read(serve: Serve) -> None:
    rest = b"GET /live HTTP/1.1\r\nA: \r\n\r\n"
    with connect(serve(), rest[:-4] + b"b" * (MAX_HEAD_BYTES - len(rest)) + rest[-4:]) as connection:
        assert read(connection).endswith(b"live\n")


@dataclass
class SlowPage:
    """Metrics whose page is finished on request only."""

    asked: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    made: list[int] = field(default_factory=list)
    """How many pages were being made whenever one was begun."""
    _now: int = 0

    def metrics(self) -> Metrics:
        metrics = Metrics()
        metrics.register_calls(self._calls, dict)
        return metrics

    def _calls(self) -> dict[str, int]:
        self._now += 1
        self.made.append(self._now)
        self.asked.set()
        assert self.may_go_on.wait(TIMEOUT_S)
        self._now -= 1
        return {}


def test_one_page_is_made_at_a_time_and_the_probes_do_not_wait(serve: Serve) -> None:
    """Timeline: 1. a page is being made and does not get on; 2. others are asked for; 3. the probes answer meanwhile;
    4. the first gets on, and all are there."""
    page = SlowPage()
    address = serve(metrics=page.metrics())
    with ThreadPoolExecutor(max_workers=8) as pool:
        first = pool.submit(ask, address, "/metrics")
        assert page.asked.wait(TIMEOUT_S)
        others = [pool.submit(ask, address, "/metrics") for _ in range(7)]
        assert [ask(address, path)[0] for path in ("/live", "/ready")] == [200, 200]
        assert not first.done()
        page.may_go_on.set()
        assert [each.result(TIMEOUT_S)[0] for each in (first, *others)] == [200] * 8
    assert page.made == [1] * 8


@pytest.mark.slow
def test_a_page_that_is_never_done_takes_neither_the_probes_nor_other_scrapes_along(serve: Serve) -> None:
    page = SlowPage()
    address = serve(timeout_s=3, metrics=page.metrics())
    with connect(address, b"GET /metrics HTTP/1.1\r\n\r\n") as first:
        assert page.asked.wait(TIMEOUT_S)
        assert ask(address, "/metrics") == (503, b"another page is still being made; try later\n")
        assert read(first) == b""
        assert ask(address) == (200, b"live\n")
        page.may_go_on.set()
    assert ask(address, "/metrics")[0] == 200


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        # Without a version that it knows, http.server sends no status line.
        pytest.param(b"\xff\xfe\x00\r\n\r\n", b"<!DOCTYPE HTML>", id="bytes"),
        pytest.param(b"GET /metrics HTTP/9.9.9\r\n\r\n", b"<!DOCTYPE HTML>", id="a version of HTTP that is none"),
        pytest.param(b"GET http://[ HTTP/1.1\r\n\r\n", b"HTTP/1.0 404 ", id="an address that is none"),
        pytest.param(b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 405 ", id="POST"),
        pytest.param(b"HEAD /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.0 405 ", id="HEAD"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.x\r\n\r\n",
            b"HTTP/1.0 400 ",
            id="OpenMetrics",
        ),
        pytest.param(b"GET /metrics HTTP/1.1\r\nAccept: text/plain; version=\xff\r\n\r\n", b"HTTP/1.0 400 ", id="text"),
    ],
)
def test_an_invalid_request_is_answered_without_other_output(
    serve: Serve, capfd: pytest.CaptureFixture[str], sent: bytes, begins: bytes
) -> None:
    address = serve()
    with connect(address, sent) as connection:
        answer = read(connection)
    assert answer.startswith(begins)
    assert ask(address) == (200, b"live\n")
    # Clients that reach the port must not be able to fill the server's log.
    assert capfd.readouterr() == ("", "")


def test_connections_that_break_say_nothing(
    serve: Serve, capfd: pytest.CaptureFixture[str], eventually: Callable[..., None]
) -> None:
    address = serve()
    before = set(threading.enumerate())
    for sent in (b"", HALF, REQUEST):
        connection = connect(address, sent)
        # Closed with a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    eventually(lambda: _threads_since(before) == 0)
    assert ask(address) == (200, b"live\n")
    assert capfd.readouterr() == ("", "")


def test_pages_are_compressed_and_in_the_format_that_is_asked_for(serve: Serve) -> None:
    address = serve()
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    status, body = ask(address, "/metrics", **openmetrics, **{"Accept-Encoding": "gzip"})
    assert (status, gzip.decompress(body).endswith(b"# EOF\n")) == (200, True)
    assert b"pixelserve_threads" in ask(address, "/metrics")[1]


def test_closing_waits_for_the_answer_to_a_request_that_is_there(eventually: Callable[..., None]) -> None:
    """Timeline: 1. a probe is being answered; 2. the port is closed; 3. when connecting is no longer possible, the
    probe's answer is made; 4. closing is done."""
    order: list[str] = []

    def is_refused() -> bool:
        # What waits for its turn when the port closes is reset.
        with suppress(ConnectionResetError):
            try:
                connect(address).close()
            except ConnectionRefusedError:
                return True
        return False

    def ready() -> bool:
        closing.start()
        eventually(is_refused)
        order.append("answered")
        return True

    def close() -> None:
        server.close()
        order.append("closed")

    server = MetricsServer(Metrics(), ready, FailureLog(None), timeout_s=HOUR_S)
    host, _, port = server.bind("127.0.0.1", 0).rpartition(":")
    address = host, int(port)
    closing = threading.Thread(target=close)
    assert ask(address, "/ready") == (200, b"ready: true\n")
    closing.join(TIMEOUT_S)
    assert order == ["answered", "closed"]


def test_connections_that_send_nothing_do_not_hold_up_the_end(crowd: Callable[..., list[socket.socket]]) -> None:
    server = MetricsServer(Metrics(), lambda: True, FailureLog(None), timeout_s=HOUR_S)
    host, _, port = server.bind("127.0.0.1", 0).rpartition(":")
    silent = crowd((host, int(port)), 3)
    assert ask((host, int(port)))[0] == 200
    server.close()
    assert [read(each) for each in silent] == [b""] * 3
