"""HTTP/1 callers that leave while waiting, detected by their sockets' state."""

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from limits import LIMITS

from pixelserve_server.deadline import Deadline
from pixelserve_server.transport.h2corn import H2cornHttpPort, departures
from pixelserve_server.transport.h2corn.departures import connections

TIMEOUT_S = 30
REQUEST = b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"


class Waiting:
    """An ASGI application that answers /wait on request, and other paths at once."""

    def __init__(self) -> None:
        self.is_waiting = threading.Event()
        self.was_cancelled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._may_answer: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/wait":
            self._loop, self._may_answer = asyncio.get_running_loop(), asyncio.Event()
            self.is_waiting.set()
            try:
                await self._may_answer.wait()
            except asyncio.CancelledError:
                self.was_cancelled.set()
                raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    def answer(self) -> None:
        assert self._loop is not None
        assert self._may_answer is not None
        self._loop.call_soon_threadsafe(self._may_answer.set)


@pytest.fixture
def app() -> Waiting:
    return Waiting()


@pytest.fixture
def address(app: Waiting) -> Iterator[tuple[str, int]]:
    failures: list[BaseException] = []
    port = H2cornHttpPort(LIMITS, failures.append)
    host, _, number = port.bind("127.0.0.1", 0).rpartition(":")
    port.start(app)
    yield host, int(number)
    port.stop(Deadline.after(1))
    assert not failures


@pytest.mark.slow
def test_a_caller_who_closes_its_connection_is_cancelled(app: Waiting, address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=TIMEOUT_S) as caller:
        caller.sendall(REQUEST)
        assert app.is_waiting.wait(TIMEOUT_S)
    assert app.was_cancelled.wait(TIMEOUT_S)


@pytest.mark.slow
def test_a_caller_who_resets_its_connection_is_cancelled(app: Waiting, address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=TIMEOUT_S) as caller:
        caller.sendall(REQUEST)
        assert app.is_waiting.wait(TIMEOUT_S)
    assert app.was_cancelled.wait(TIMEOUT_S)
    app.is_waiting.clear()
    app.was_cancelled.clear()
    with socket.create_connection(address, timeout=TIMEOUT_S) as caller:
        caller.sendall(REQUEST)
        assert app.is_waiting.wait(TIMEOUT_S)
        # Closing with a linger of 0 resets the connection.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert app.was_cancelled.wait(TIMEOUT_S)


@pytest.mark.slow
def test_a_caller_who_sent_more_before_it_left_is_cancelled(app: Waiting, address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=TIMEOUT_S) as caller:
        caller.sendall(REQUEST + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert app.is_waiting.wait(TIMEOUT_S)
    assert app.was_cancelled.wait(TIMEOUT_S)


@pytest.mark.slow
def test_a_caller_who_waits_is_answered_and_its_connection_kept(app: Waiting, address: tuple[str, int]) -> None:
    """Timeline: 1. one caller waits; 2. another leaves, and is noticed; 3. the first is answered, and asks again."""
    staying = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    staying.request("POST", "/wait", b"body")
    assert app.is_waiting.wait(TIMEOUT_S)
    answer = app.answer
    app.is_waiting.clear()
    with socket.create_connection(address, timeout=TIMEOUT_S) as leaving:
        loop, may_answer = app._loop, app._may_answer
        leaving.sendall(REQUEST)
        assert app.is_waiting.wait(TIMEOUT_S)
    assert app.was_cancelled.wait(TIMEOUT_S)
    app._loop, app._may_answer = loop, may_answer
    answer()
    assert staying.getresponse().read() == b"hello"
    staying.request("GET", "/")
    assert staying.getresponse().read() == b"hello"
    staying.close()


@pytest.mark.slow
def test_no_call_is_cancelled_without_free_descriptors(
    app: Waiting, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Semaphore(0)

    def fails(_: object) -> Any:
        looked.release()
        raise OSError

    monkeypatch.setattr(departures, "connections", fails)
    waiting = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    waiting.request("POST", "/wait", b"body")
    for _ in range(3):
        assert looked.acquire(timeout=TIMEOUT_S)
    app.answer()
    assert waiting.getresponse().read() == b"hello"
    waiting.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_identified_by_their_peers(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        callers = [socket.create_connection(server.getsockname()[:2], timeout=TIMEOUT_S) for _ in range(3)]
        ends = [server.accept()[0] for _ in callers]
        peers = [end.getpeername()[:2] for end in ends]
        assert connections(peers) == dict.fromkeys(peers, True)
        callers[0].close()
        callers[1].close()
        assert connections([peers[0], peers[2], ("127.0.0.1", 1)]) == {peers[0]: False, peers[2]: True}
        assert connections([]) == {}
        # Nothing of theirs was closed.
        ends[2].sendall(b"x")
        assert callers[2].recv(1) == b"x"
        for each in (*callers, *ends):
            each.close()
