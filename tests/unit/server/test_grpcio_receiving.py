"""grpcio's incomplete requests count as in flight; if there are too many, one connection loses its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.transport.grpcio_receiving import LOOK_S, Receiving, received_bytes

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
MESSAGE_BYTES = 32 * MIB


class Sender:
    """A call whose message does not end until it is cancelled."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self.ended = threading.Event()
        self.is_cancelled = False

    def peer(self) -> str:
        return self._peer

    def cancel(self) -> None:
        self.is_cancelled = True
        self.ended.set()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        assert self.ended.wait(30)
        return b"a message"


class Port:
    """A port's calls, and what its connections have received."""

    def __init__(self) -> None:
        self.received: dict[str, int] = {}
        self.looks = 0
        self.resident_bytes = 0
        self.admission = Admission(LIMIT_BYTES)
        self.receiving = Receiving(MESSAGE_BYTES, self._read, lambda: self.resident_bytes)
        self.senders: list[Sender] = []
        self.threads: list[threading.Thread] = []

    def _read(self) -> dict[str, int]:
        self.looks += 1
        return dict(self.received)

    def begin(self, peer: str) -> Sender:
        """Begins a call, of which nothing has come yet."""
        sender: Any = Sender(peer)
        thread = threading.Thread(target=self.receiving.next, args=(sender, sender), daemon=True)
        thread.start()
        self.senders.append(sender)
        self.threads.append(thread)
        return sender

    def look(self, after_s: float = 2 * LOOK_S, *, grown_mib: int = 8) -> None:
        self.resident_bytes += grown_mib * MIB
        self.receiving.look(self.admission, time.monotonic() + after_s)

    @property
    def in_flight_bytes(self) -> int:
        return LIMIT_BYTES + self.admission.excess_bytes

    def end(self) -> None:
        for sender in self.senders:
            sender.ended.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.end()


@pytest.fixture
def begin(port: Port, eventually: Callable[..., None]) -> Callable[..., list[Sender]]:
    """Begins calls of one peer, and waits until they are known."""

    def begin(peer: str, count: int = 1) -> list[Sender]:
        begun = [port.begin(peer) for _ in range(count)]
        known: Any = port.receiving._since_s
        eventually(lambda: all(sender in known for sender in begun))
        return begun

    return begin


def test_what_a_slow_request_has_sent_counts_until_it_is_whole(
    port: Port, begin: Callable[..., list[Sender]], eventually: Callable[..., None]
) -> None:
    [sender] = begin("a")
    port.received = {"a": 10 * MIB, "b": 50 * MIB}
    port.look()
    assert port.in_flight_bytes == 10 * MIB
    port.received = {"a": 11 * MIB}
    port.look()
    assert port.in_flight_bytes == 11 * MIB
    sender.ended.set()
    eventually(lambda: not port.receiving._since_s)
    port.look()
    assert (port.in_flight_bytes, sender.is_cancelled) == (0, False)


def test_what_its_connection_received_before_does_not_count(
    port: Port, begin: Callable[..., list[Sender]], eventually: Callable[..., None]
) -> None:
    port.received = {"a": 500 * MIB}
    [before] = begin("a")
    before.ended.set()
    eventually(lambda: not port.receiving._since_s)
    port.look()
    begin("a")
    port.received = {"a": 503 * MIB}
    port.look()
    assert port.in_flight_bytes == 3 * MIB


def test_requests_hold_no_more_than_their_maximum(port: Port, begin: Callable[..., list[Sender]]) -> None:
    """Their connection may have received much else meanwhile."""
    [sender] = begin("a")
    port.received = {"a": 1000 * MIB}
    port.look()
    assert (port.in_flight_bytes, sender.is_cancelled) == (MESSAGE_BYTES, False)


def test_the_connection_with_most_of_them_loses_its_requests(port: Port, begin: Callable[..., list[Sender]]) -> None:
    greedy, modest = begin("greedy", 3), begin("modest", 2)
    port.received = {"greedy": 60 * MIB, "modest": 20 * MIB}
    port.look()
    assert [each.is_cancelled for each in greedy + modest] == [True] * 3 + [False] * 2
    assert port.in_flight_bytes == 20 * MIB
    # What it lost does not count against its next request.
    begin("greedy")
    port.received = {"greedy": 61 * MIB, "modest": 20 * MIB}
    port.look()
    assert port.in_flight_bytes == 21 * MIB


def test_requests_in_flight_leave_less_room(port: Port, begin: Callable[..., list[Sender]]) -> None:
    port.admission.hold(60 * MIB)
    senders = begin("a", 2)
    port.received = {"a": 5 * MIB}
    port.look()
    assert all(sender.is_cancelled for sender in senders)
    assert port.in_flight_bytes == 60 * MIB


def test_a_single_request_of_any_size_is_received(port: Port, begin: Callable[..., list[Sender]]) -> None:
    port.admission = Admission(1 * MIB)
    [sender] = begin("a")
    port.received = {"a": 30 * MIB}
    port.look()
    assert not sender.is_cancelled


def test_quick_requests_cost_no_look(port: Port, begin: Callable[..., list[Sender]]) -> None:
    begin("a", 5)
    port.look(0)
    port.received = {"a": 1000 * MIB}
    for _ in range(10):
        port.look(0)
    assert port.looks == 1


def test_slow_requests_are_looked_at_when_memory_grows_or_after_a_time(
    port: Port, begin: Callable[..., list[Sender]]
) -> None:
    """Under overload many are slow, and hold nothing."""
    begin("a", 2)
    port.look()
    for _ in range(10):
        port.look(grown_mib=0)
    assert port.looks == 1
    port.look(grown_mib=8)
    assert port.looks == 2
    port.look(60, grown_mib=0)
    assert port.looks == 3


def test_an_idle_port_costs_no_look(
    port: Port, begin: Callable[..., list[Sender]], eventually: Callable[..., None]
) -> None:
    [sender] = begin("a")
    sender.ended.set()
    eventually(lambda: not port.receiving._since_s)
    for minute in range(1, 10):
        port.look(60 * minute)
    assert port.looks == 1


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1", "::"])
def test_the_kernel_counts_what_a_connection_received(listening: str, eventually: Callable[..., None]) -> None:
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    with ExitStack() as sockets:
        server = sockets.enter_context(
            socket.create_server((listening, 0), family=family, dualstack_ipv6=listening == "::")
        )
        number = server.getsockname()[1]
        host = "127.0.0.1" if listening == "::" else listening
        expected: dict[str, int] = {}
        for size_bytes in (3, 70_000):
            client = sockets.enter_context(socket.create_connection((host, number)))
            sockets.enter_context(server.accept()[0])
            client.sendall(bytes(size_bytes))
            name = f"ipv6:%5B{host}%5D" if ":" in host else f"ipv4:{host}"
            expected[f"{name}:{client.getsockname()[1]}"] = size_bytes
        eventually(lambda: {peer: received_bytes(number).get(peer) for peer in expected} == expected)
