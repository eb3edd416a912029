"""The requests that grpcio is receiving: their bytes count as in flight.

grpcio shows a message only when it is whole, so the bytes are those that its connection received meanwhile, by the
kernel's count (Linux).
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress

import grpc

from ..api.admission import Admission
from ..engine.memory import resident_bytes, trim
from .linger import copies

# A request that takes longer is looked at: until then a sender of 3 GB/s has sent 75 MB.
LOOK_S = 0.025
# A look at the connections takes about 1 ms, and under overload many requests take long. So it waits for memory to grow
# by this much, or for this time. A longer one makes the bytes of slow requests include more of others.
_GROWTH_BYTES = 8 << 20
_REST_S = 0.25
# The same for many connections, whose looks take long: a fiftieth of a core at most while memory does not grow.
_RESTS = 50
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
    """The requests of unary calls that are being received. Thread-safe; `look` is called on one thread.

    When there is no room for their bytes, the connection with most of them loses its incomplete requests.

    Args:
        max_message_bytes: maximum size of a request.
        received: returns the bytes that each connection has received.
        resident: returns this process's memory in bytes.
    """

    def __init__(
        self,
        max_message_bytes: int,
        received: Callable[[], Mapping[str, int]],
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._received = received
        self._resident = resident
        # What it returned at the last look.
        self._seen_bytes = 0
        self._lock = threading.Lock()
        # When each call began to wait for its message.
        self._since_s: dict[grpc.ServicerContext, float] = {}
        self._next_look_s = 0.0
        # What each connection had received when none of its requests took long.
        self._before: dict[str, int] = {}
        self._counted_bytes = 0
        # Since the last look.
        self._has_begun = False
        self._has_cancelled = False

    def next(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes | None:
        """Waits for a call's message; returns None if it has none.

        Raises:
            grpc.RpcError: the caller has left, or lost the request.
        """
        with self._lock:
            self._since_s[context] = time.monotonic()
            self._has_begun = True
        try:
            return next(messages, None)
        finally:
            with self._lock:
                del self._since_s[context]

    def look(self, admission: Admission, now_s: float) -> None:
        """Counts the bytes of incomplete requests in place of those of the last look; cancels calls if too many."""
        if self._has_cancelled:
            # glibc would keep what they held, for each of grpcio's threads.
            trim()
            self._has_cancelled = False
        slow = self._slow(now_s)
        if not slow and self._counted_bytes:
            self._count(admission, 0)
        if not self._is_due(now_s, is_slow=bool(slow)):
            return
        start_s = time.monotonic()
        held = self._held(slow)
        self._next_look_s = now_s + max(_REST_S, _RESTS * (time.monotonic() - start_s))
        while self._count(admission, sum(held.values())) > 0 and held and sum(map(len, slow.values())) > 1:
            greediest = max(held, key=held.__getitem__)
            for context in slow.pop(greediest):
                context.cancel()
            self._before[greediest] += held.pop(greediest)
            self._has_cancelled = True

    def _is_due(self, now_s: float, *, is_slow: bool) -> bool:
        if not is_slow and not self._has_begun:
            # Nothing was received.
            return False
        now_bytes = self._resident()
        if now_s < self._next_look_s and not (is_slow and now_bytes >= self._seen_bytes + _GROWTH_BYTES):
            return False
        self._seen_bytes, self._has_begun = now_bytes, False
        return True

    def _slow(self, now_s: float) -> dict[str, list[grpc.ServicerContext]]:
        """Returns the calls whose messages take long, by peer."""
        slow: dict[str, list[grpc.ServicerContext]] = {}
        with self._lock:
            for context, since_s in self._since_s.items():
                if now_s - since_s < LOOK_S:
                    # The oldest come first.
                    break
                slow.setdefault(context.peer(), []).append(context)
        return slow

    def _held(self, slow: Mapping[str, Collection[object]]) -> dict[str, int]:
        """Returns the maximum number of bytes that the slow requests of each connection hold."""
        received = self._received()
        self._before = {
            peer: self._before.get(peer, 0) if peer in slow else size_bytes for peer, size_bytes in received.items()
        }
        # Smaller requests that the connection completed meanwhile are included, so it may be far less.
        return {
            peer: min(received[peer] - self._before[peer], len(calls) * self._max_message_bytes)
            for peer, calls in slow.items()
            if peer in received
        }

    def _count(self, admission: Admission, held_bytes: int) -> int:
        """Counts bytes in place of those before; returns how many there are too many in the whole server."""
        admission.hold(held_bytes - self._counted_bytes)
        self._counted_bytes = held_bytes
        return admission.excess_bytes
