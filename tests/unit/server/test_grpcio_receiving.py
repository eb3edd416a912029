"""grpcio's incomplete messages count as in flight; if there are too many, one connection loses its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.transport.grpcio_receiving import LOOK_S, Receiving, received_bytes

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
MESSAGE_BYTES = 32 * MIB


class Sender:
    """A call whose message is incomplete until `complete`."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self.ended = threading.Event()
        self.is_cancelled = False
        self.message = b""

    def peer(self) -> str:
        return self._peer

    def cancel(self) -> None:
        self.is_cancelled = True
        self.ended.set()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        assert self.ended.wait(30)
        if not self.message:
            raise grpc.RpcError
        return self.message


class Port:
    """A port's calls, and what its connections have received."""

    def __init__(self) -> None:
        self.received: dict[str, int] = {}
        self.looks = 0
        self.resident_bytes = 0
        self.admission = Admission(LIMIT_BYTES)
        self.use(LIMIT_BYTES)
        self.threads: dict[Any, threading.Thread] = {}

    def use(self, limit_bytes: int) -> None:
        """Lets so many bytes be in flight."""
        self.limit_bytes = limit_bytes
        self.admission = Admission(limit_bytes)
        self.receiving = Receiving(self.admission, MESSAGE_BYTES, self._read, lambda: self.resident_bytes)

    def _read(self) -> dict[str, int]:
        self.looks += 1
        return dict(self.received)

    def begin(self, peer: str) -> Any:
        """Begins to wait for a message, of which nothing has come yet."""
        sender: Any = Sender(peer)

        def wait() -> None:
            with suppress(grpc.RpcError):
                self.receiving.next(sender, sender, peer)

        self.threads[sender] = threading.Thread(target=wait, daemon=True)
        self.threads[sender].start()
        return sender

    def complete(self, sender: Sender, message: bytes = b"") -> None:
        """Ends a wait, by a message or because its caller left."""
        sender.message = message
        sender.ended.set()
        self.threads[sender].join(30)

    def look(self, after_s: float = 2 * LOOK_S, *, grown_mib: int = 8) -> None:
        self.resident_bytes += grown_mib * MIB
        self.receiving.look(time.monotonic() + after_s)

    @property
    def in_flight_mib(self) -> float:
        return (self.limit_bytes + self.admission.excess_bytes) / MIB

    def end(self) -> None:
        for sender in self.threads:
            self.complete(sender)


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
        known: Any = port.receiving._waits
        eventually(lambda: all(sender in known for sender in begun))
        return begun

    return begin


def test_what_a_slow_message_has_sent_counts_until_it_is_complete(
    port: Port, begin: Callable[..., list[Sender]]
) -> None:
    [sender] = begin("a")
    port.received = {"a": 10 * MIB, "b": 50 * MIB}
    port.look(grown_mib=20)
    assert port.in_flight_mib == 10
    port.received = {"a": 11 * MIB}
    port.look()
    assert port.in_flight_mib == 11
    # From here it counts as a request, and never twice.
    port.complete(sender, bytes(11 * MIB))
    assert port.in_flight_mib == 0
    assert not sender.is_cancelled
    # Nor does it hide the next one.
    begin("a")
    port.received = {"a": 14 * MIB}
    port.look()
    assert port.in_flight_mib == pytest.approx(3, abs=0.1)


def test_what_its_connection_received_in_complete_messages_does_not_count(
    port: Port, begin: Callable[..., list[Sender]]
) -> None:
    """Beside a stream that waits for its next message for hours."""
    begin("a")
    for done in range(1, 101):
        [sender] = begin("a")
        port.received = {"a": done * (5 * MIB + 5000)}
        port.complete(sender, bytes(5 * MIB))
        port.look(grown_mib=64 if done == 1 else 8)
    assert port.in_flight_mib == 0
    [sender] = begin("a")
    port.received = {"a": port.received["a"] + 3 * MIB}
    port.look()
    assert 2.9 < port.in_flight_mib <= 3


def test_what_is_completed_during_a_look_is_subtracted_by_the_next(
    port: Port, begin: Callable[..., list[Sender]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin("a")
    [sender] = begin("a")

    def received() -> dict[str, int]:
        if sender.ended.is_set():
            return {"a": 6 * MIB}
        # The rest comes before the look has ended.
        port.complete(sender, bytes(6 * MIB))
        return {"a": 4 * MIB}

    monkeypatch.setattr(port.receiving, "_received", received)
    port.look(grown_mib=30)
    port.look(60)
    assert port.in_flight_mib == 0


def test_a_new_connection_from_the_same_port_starts_at_nothing(port: Port, begin: Callable[..., list[Sender]]) -> None:
    begin("a")
    port.received = {"a": 20 * MIB}
    port.look(grown_mib=30)
    port.complete(next(iter(port.threads)))
    begin("a")
    port.received = {"a": 2 * MIB}
    port.look()
    assert port.in_flight_mib == 2


def test_calls_hold_no_more_than_their_maximum(port: Port, begin: Callable[..., list[Sender]]) -> None:
    [sender] = begin("a")
    port.received = {"a": 1000 * MIB}
    port.look(grown_mib=1000)
    assert (port.in_flight_mib, sender.is_cancelled) == (MESSAGE_BYTES / MIB, False)


def test_what_cancelled_calls_had_sent_counts_no_longer_than_memory_shows_it(
    port: Port, begin: Callable[..., list[Sender]]
) -> None:
    """Beside idle streams of their connections, whose messages it might be."""
    begin("a")
    begin("b")
    port.received = {"a": 20 * MIB, "b": 10 * MIB}
    port.look(grown_mib=30)
    assert port.in_flight_mib == 30
    port.look(60, grown_mib=-27)
    assert port.in_flight_mib == pytest.approx(3, abs=0.1)


def test_the_connection_with_most_of_them_loses_its_calls(port: Port, begin: Callable[..., list[Sender]]) -> None:
    greedy, modest = begin("greedy", 3), begin("modest", 2)
    port.received = {"greedy": 60 * MIB, "modest": 20 * MIB}
    port.look(grown_mib=90)
    assert [each.is_cancelled for each in greedy + modest] == [True] * 3 + [False] * 2
    assert port.in_flight_mib == 20
    # What it lost does not count against its next call.
    begin("greedy")
    port.received = {"greedy": 61 * MIB, "modest": 20 * MIB}
    port.look()
    assert port.in_flight_mib == pytest.approx(21, abs=0.01)


def test_idle_calls_of_others_lose_nothing(port: Port, begin: Callable[..., list[Sender]]) -> None:
    idle, greedy = begin("idle", 5), begin("greedy", 3)
    port.received = {"idle": 5000, "greedy": 70 * MIB}
    port.look(grown_mib=90)
    assert [each.is_cancelled for each in idle + greedy] == [False] * 5 + [True] * 3


def test_requests_in_flight_leave_less_room(port: Port, begin: Callable[..., list[Sender]]) -> None:
    port.admission.hold(60 * MIB)
    senders = begin("a", 2)
    port.received = {"a": 5 * MIB}
    port.look()
    assert all(sender.is_cancelled for sender in senders)
    assert port.in_flight_mib == 60


def test_a_single_message_of_any_size_is_received(port: Port, begin: Callable[..., list[Sender]]) -> None:
    port.use(1 * MIB)
    [sender] = begin("a")
    begin("idle", 3)
    port.received = {"a": 30 * MIB, "idle": 5000}
    port.look(grown_mib=40)
    assert not sender.is_cancelled


def test_quick_messages_cost_no_look(port: Port, begin: Callable[..., list[Sender]]) -> None:
    begin("a", 5)
    port.look(0)
    port.received = {"a": 1000 * MIB}
    for _ in range(10):
        port.look(0)
    assert port.looks == 1


def test_slow_messages_are_looked_at_when_memory_grows_or_after_a_time(
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
    port.look(1, grown_mib=0)
    assert port.looks == 2
    port.look(60, grown_mib=0)
    assert port.looks == 3
    # What is counted may be complete soon.
    port.received = {"a": 1 * MIB}
    port.look(120, grown_mib=8)
    port.look(121, grown_mib=0)
    assert port.looks == 5


def test_an_idle_port_costs_no_look(port: Port, begin: Callable[..., list[Sender]]) -> None:
    [sender] = begin("a")
    port.complete(sender, b"a message")
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
