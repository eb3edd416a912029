"""The HTTP port: bound, serving, idle, released."""

import asyncio
import gc
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from limits import LIMITS

from pixelserve_server.api.rest.body import BodyReader
from pixelserve_server.api.rest.status import HttpError
from pixelserve_server.deadline import Deadline
from pixelserve_server.errors import StartupError
from pixelserve_server.transport.h2corn import H2cornHttpPort


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that says one thing."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def transport() -> Iterator[H2cornHttpPort]:
    """An unused port; an exception in its thread fails the test."""
    failures: list[BaseException] = []
    built = H2cornHttpPort(LIMITS, failures.append)
    yield built
    built.stop(Deadline.after(1))
    assert not failures


def ask(address: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_answers_on_a_free_port_and_gives_it_back(transport: H2cornHttpPort, host: str) -> None:
    address = transport.bind(host, 0)
    transport.start(hello)
    assert ask(address) == b"hello"
    transport.stop(Deadline.after(1))
    with pytest.raises(ConnectionRefusedError):
        ask(address)


def sends_at_once(client: socket.socket) -> int:
    """Returns TCP_NODELAY of the other end of a connection that this process made to itself."""
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208  only the names are needed
        with suppress(OSError), socket.fromfd(int(number), socket.AF_INET, socket.SOCK_STREAM) as end:
            if end.getpeername() == client.getsockname():
                return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    raise AssertionError("no socket of this process is the other end")


def test_an_answer_sent_in_two_pieces_does_not_wait_for_an_acknowledgement(transport: H2cornHttpPort) -> None:
    """With Nagle's algorithm the second piece waits for the client's delayed acknowledgement, 40 ms."""
    address = transport.bind("127.0.0.1", 0)
    transport.start(hello)
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        assert sends_at_once(connection.sock)
    finally:
        connection.close()


def test_a_port_that_was_taken_and_never_served_is_given_back(transport: H2cornHttpPort) -> None:
    address = transport.bind("127.0.0.1", 0)
    transport.stop(Deadline.after(1))
    with pytest.raises(ConnectionRefusedError):
        ask(address)


def test_a_port_in_use_is_named_with_the_remedies(transport: H2cornHttpPort) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port} for HTTP: .*in use.*--http-port.*--no-http"):
            transport.bind("127.0.0.1", port)


def test_a_host_that_is_not_there_is_named(transport: H2cornHttpPort) -> None:
    with pytest.raises(StartupError, match=r"nowhere\.invalid:0 for HTTP"):
        transport.bind("nowhere.invalid", 0)


@pytest.mark.slow
def test_its_thread_sleeps_without_requests(transport: H2cornHttpPort, eventually: Callable[..., None]) -> None:
    """A loop that wakes by itself would take the interpreter from what computes."""
    address = transport.bind("127.0.0.1", 0)
    transport.start(hello)
    assert ask(address) == b"hello"
    (thread,) = [each for each in threading.enumerate() if each.name == "HTTP"]
    status = Path(f"/proc/self/task/{thread.native_id}/status")

    def wakes() -> str:
        return next(line for line in status.read_text().splitlines() if line.startswith("voluntary"))

    def rests() -> bool:
        before = wakes()
        time.sleep(0.5)
        return wakes() == before

    # The connection's end, and a look for callers who left, are its last events; on a busy machine they come late.
    eventually(rests)


def test_the_server_imports_no_http_library_before_it_needs_one() -> None:
    code = "import sys, pixelserve_server.app; print([m for m in ('h2corn', 'starlette') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_sender_that_falls_silent_in_the_middle_of_a_body_gets_an_error() -> None:
    events = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return events.pop() if events else await asyncio.Event().wait()

    async def read() -> None:
        with BodyReader(1000, 1000, 0.01).room() as room:
            await room.read({}, receive)

    with pytest.raises(HttpError, match="no byte of the body came") as caught:
        asyncio.run(read())
    assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})


@pytest.mark.parametrize("size", [b"3000", b"1500"])
def test_a_body_that_is_refused_is_let_go_of_at_once(size: bytes) -> None:
    """The transport waits for the body's reader, and continues with the connection if there is none."""

    class Body:
        async def __call__(self) -> Any:
            return {"type": "http.request", "body": b" " * 2500, "more_body": True}

    async def read() -> weakref.ref[Body]:
        receive = Body()
        with pytest.raises(HttpError, match="more than 1,000 bytes"), BodyReader(1000, 1000, 30).room() as room:
            await room.read({b"content-length": size}, receive)
        return weakref.ref(receive)

    gc.disable()
    try:
        assert asyncio.run(read())() is None
    finally:
        gc.enable()
