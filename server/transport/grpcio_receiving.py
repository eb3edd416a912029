"""The messages that grpcio is receiving: their bytes count as in flight.

grpcio shows a message only when it is whole. So the bytes of incomplete ones are those that their connection received,
by the kernel's count (Linux), and that were not in its complete ones.
"""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress

import grpc

from ..api.admission import Admission
from ..engine.memory import resident_bytes, trim
from .linger import copies

# A message that takes longer is looked at: until then a sender of 3 GB/s has sent 75 MB.
LOOK_S = 0.025
# A look at the connections takes about 1 ms, and under overload many messages take long. So it waits for memory to grow
# by this much, or for one of these times, the first while bytes are counted.
_GROWTH_BYTES = 8 << 20
_REST_S = 0.25
_QUIET_REST_S = 2.0
# The same for many connections, whose looks take long: a fiftieth of a core at most while memory does not grow.
_RESTS = 50
# What a connection receives beside messages: headers and acknowledgements per message, and a 256th of them for frames
# and TLS records.
_HEAD_BYTES = 256
_FRAMING_SHIFT = 8
# A connection that holds less has no incomplete message worth cancelling.
_SMALL_BYTES = 64 << 10
# Where Linux's tcp_info has tcpi_bytes_received, an unsigned 64-bit number (since 4.1).
_BYTES_RECEIVED = 128


def received_bytes(port: int) -> dict[str, int]:
    """Returns the bytes that each connection to a local port has received, by its peer as grpcio writes it."""
    found: dict[str, int] = {}
    with copies(port) as connections:
        for each in connections:
            # It may just have ended.
            with suppress(OSError, struct.error):
                info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
                found[_peer(each)] = struct.unpack_from("Q", info, _BYTES_RECEIVED)[0]
    return found


def _peer(connection: socket.socket) -> str:
    host, port = connection.getpeername()[:2]
    # A socket for both versions shows an IPv4 address as an IPv6 one.
    host = host.removeprefix("::ffff:")
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


class Receiving:
    """The messages that are being received, of unary calls and of streams. Thread-safe; `look` is called on one thread.

    When there is no room for their bytes, the connection with most of them loses the calls that wait for a message.

    Args:
        admission: counts what is in flight.
        max_message_bytes: maximum size of a message.
        received: returns the bytes that each connection has received.
        resident: returns this process's memory in bytes.
    """

    def __init__(
        self,
        admission: Admission,
        max_message_bytes: int,
        received: Callable[[], Mapping[str, int]],
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._admission = admission
        self._max_message_bytes = max_message_bytes
        self._received = received
        self._resident = resident
        self._lock = threading.Lock()
        # The connections of the calls that wait for a message, and since when.
        self._waits: dict[grpc.ServicerContext, tuple[str, float]] = {}
        # What each connection has at most received since the last look in messages that are complete now.
        self._completed: Counter[str] = Counter()
        self._has_begun = False
        self._least_bytes = resident()
        # At the last look: memory, what each connection had received, what of it is incomplete messages, and their sum.
        self._seen_bytes = 0
        self._before: Mapping[str, int] = {}
        self._held: dict[str, int] = {}
        self._counted_bytes = 0
        self._next_look_s = 0.0
        self._has_cancelled = False

    def next(self, messages: Iterator[bytes], context: grpc.ServicerContext, peer: str) -> bytes | None:
        """Waits for a call's next message; returns None if there is none.

        Args:
            messages: the call's.
            context: the call's.
            peer: the call's connection, as grpcio writes it.

        Raises:
            grpc.RpcError: the caller has left, or lost the message.
        """
        with self._lock:
            self._waits[context] = peer, time.monotonic()
            self._has_begun = True
        size_bytes = 0
        try:
            message = next(messages, None)
            size_bytes = len(message or b"")
        finally:
            with self._lock:
                del self._waits[context]
                self._complete(peer, size_bytes + (size_bytes >> _FRAMING_SHIFT) + _HEAD_BYTES)
        return message

    def _complete(self, peer: str, size_bytes: int) -> None:
        """Stops counting a message, which will count as a request."""
        held_bytes = self._held.get(peer, 0)
        if held_bytes:
            counted_bytes = min(held_bytes, size_bytes)
            self._held[peer] = held_bytes - counted_bytes
            self._count(self._counted_bytes - counted_bytes)
            size_bytes -= counted_bytes
        self._completed[peer] += size_bytes

    def look(self, now_s: float) -> None:
        """Counts the bytes of incomplete messages in place of those of the last look; cancels calls if too many."""
        if self._has_cancelled:
            # glibc would keep what they held, for each of grpcio's threads.
            trim()
            self._has_cancelled = False
        slow = self._slow(now_s)
        if not self._is_due(now_s, is_slow=bool(slow)):
            return
        start_s = time.monotonic()
        self._measure()
        while (loser := self._loser(slow)) is not None:
            for context in slow.pop(loser):
                context.cancel()
            self._has_cancelled = True
        rest_s = _REST_S if self._counted_bytes else _QUIET_REST_S
        self._next_look_s = now_s + max(rest_s, _RESTS * (time.monotonic() - start_s))

    def _is_due(self, now_s: float, *, is_slow: bool) -> bool:
        if not is_slow and not self._has_begun:
            # Nothing was received.
            return False
        now_bytes = self._resident()
        if now_s < self._next_look_s and now_bytes < self._seen_bytes + _GROWTH_BYTES:
            return False
        self._seen_bytes, self._has_begun = now_bytes, False
        self._least_bytes = min(self._least_bytes, now_bytes)
        return True

    def _slow(self, now_s: float) -> dict[str, list[grpc.ServicerContext]]:
        """Returns the calls that have waited long for a message, by peer. Idle streams are among them."""
        slow: dict[str, list[grpc.ServicerContext]] = {}
        with self._lock:
            for context, (peer, since_s) in self._waits.items():
                if now_s - since_s < LOOK_S:
                    # The oldest come first.
                    break
                slow.setdefault(peer, []).append(context)
        return slow

    def _measure(self) -> None:
        """Counts the bytes of each connection's incomplete messages."""
        with self._lock:
            completed, self._completed = self._completed, Counter()
        # Read after that: what is completed in between is subtracted at the next look, and never lost.
        before, self._before = self._before, self._received()
        with self._lock:
            waiting = Counter(peer for peer, _ in self._waits.values())
            held = {}
            for peer, count in waiting.items():
                if (now_bytes := self._before.get(peer)) is None:
                    continue
                before_bytes, held_bytes = before.get(peer, 0), self._held.get(peer, 0)
                if now_bytes < before_bytes:
                    # Another connection from the same port.
                    before_bytes = held_bytes = 0
                incomplete_bytes = max(held_bytes + now_bytes - before_bytes - completed[peer], 0)
                held[peer] = min(incomplete_bytes, count * self._max_message_bytes)
            self._held = _at_most(self._seen_bytes - self._least_bytes, held)
            self._count(sum(self._held.values()))

    def _loser(self, slow: Mapping[str, Collection[object]]) -> str | None:
        """Returns the connection to lose its calls, of which its bytes are not counted any more; None: there is room.

        A single call may send any message.
        """
        with self._lock:
            holding = {peer: calls for peer, calls in slow.items() if self._held.get(peer, 0) >= _SMALL_BYTES}
            if self._admission.excess_bytes <= 0 or sum(map(len, holding.values())) < 2:
                return None
            greediest = max(holding, key=self._held.__getitem__)
            self._count(self._counted_bytes - self._held.pop(greediest))
            return greediest

    def _count(self, held_bytes: int) -> None:
        """Counts bytes in place of those before."""
        self._admission.hold(held_bytes - self._counted_bytes)
        self._counted_bytes = held_bytes


def _at_most(total_bytes: int, held: dict[str, int]) -> dict[str, int]:
    """Returns what connections hold, reduced to a total: memory has not grown by more.

    What a call had sent before it was cancelled is never completed, and would count as long as another call of its
    connection waits, such as an idle stream.
    """
    sum_bytes = sum(held.values())
    if sum_bytes <= total_bytes:
        return held
    return {peer: size_bytes * total_bytes // sum_bytes for peer, size_bytes in held.items()}
