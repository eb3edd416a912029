"""gRPC over HTTP/2 in minimal Python: requests are prepared frames, and answers are reduced to their status.

A call costs 15 µs of a core instead of grpcio's 100, so a single core can overload a server. No TLS.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from .errors import BenchError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_TABLE_SIZE, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME = 1, 3, 4, 5
_HEAD_BYTES = 9
_FRAME_BYTES = 16_384
_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1
_RECEIVE_BYTES = 1 << 18
# `grpc-status` and digits, as they are and in HPACK's Huffman code (RFC 7541, appendix B).
_NAMES = (b"grpc-status", bytes.fromhex("9acac8b21234da8f"))
_DIGITS = ("00000", "00001", "00010", "011001", "011010", "011011", "011100", "011101", "011110", "011111")
RESET = -1
"""The status of a call that the server reset."""

Ended = Callable[[float, int], None]
"""Receives the intended start of a call, as given to `Connection.send`, and its status."""


def _huffman(digits: str) -> bytes:
    bits = "".join(_DIGITS[int(digit)] for digit in digits)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


_STATUSES = {**{str(code).encode(): code for code in range(17)}, **{_huffman(str(code)): code for code in range(17)}}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns one frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def header_block(fields: Sequence[tuple[str, str]]) -> bytes:
    """Returns headers as literals without indexing, so they are valid for every call."""
    return b"".join(b"\x10" + _string(name) + _string(value) for name, value in fields)


def _string(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data), 7) + data


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    encoded, value = bytearray((most,)), value - most
    while value >= 128:
        encoded.append(value % 128 | 128)
        value >>= 7
    return bytes((*encoded, value))


def status_in(block: bytes) -> int | None:
    """Returns the gRPC status in a header block of a peer without a dynamic table, or None.

    Raises:
        BenchError: it cannot be read.
    """
    at, status = 0, None
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # a name and a value of the static table, none of which is a status
                _, at = _read_integer(block, at, 7)
            elif first & 0xE0 == 0x20:  # the size of the table
                _, at = _read_integer(block, at, 5)
            else:
                index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
                name, at = (b"", at) if index else _read_string(block, at)
                value, at = _read_string(block, at)
                if name in _NAMES:
                    status = _STATUSES[value]
    except (IndexError, KeyError) as error:
        raise BenchError(f"the server's headers cannot be read: {block[:200]!r}") from error
    return status


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte, at = block[at], at + 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    size, at = _read_integer(block, at, 7)
    return block[at : at + size], at + size


class Connection:
    """One non-blocking connection, for one thread at a time."""

    def __init__(
        self, host: str, port: int, method: str, bodies: Sequence[bytes], fields: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Connects.

        Args:
            host: the server's, without TLS.
            port: the server's.
            method: gRPC method as /service/method.
            bodies: serialized requests, sent in turn.
            fields: further headers of each request, such as its deadline.

        Raises:
            OSError: the connection failed.
        """
        self.socket = socket.create_connection((host, port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", f"{host}:{port}")
        rest = ("te", "trailers"), ("content-type", "application/grpc")
        self._headers = header_block((*own, *rest, *fields))
        self._messages = [b"\0" + struct.pack(">I", len(body)) + body for body in bodies]
        self._largest = max(map(len, self._messages))
        self._next_message = 0
        self._next_stream = 1
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _LARGEST_WINDOW)
        window = struct.pack(">I", _LARGEST_WINDOW - _WINDOW)
        self._out = bytearray(_PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, window))
        self._in = b""
        # The server's limits: bytes per connection and per call, concurrent calls.
        self._window = self._stream_window = _WINDOW
        self._most_streams = 100
        # Intended start of each open call, by stream.
        self._open: dict[int, float] = {}
        # Intended starts of calls that wait for the server's limits.
        self._waiting: deque[float] = deque()
        self._statuses: dict[bytes, int | None] = {}
        self.socket.setblocking(False)

    @property
    def unanswered(self) -> int:
        """Number of calls without an answer."""
        return len(self._open) + len(self._waiting)

    @property
    def has_output(self) -> bool:
        """Whether there is something to write."""
        return bool(self._out)

    def send(self, due_s: float) -> None:
        """Sends the next request, or queues it until the server allows; `due_s` is its intended start."""
        if self._waiting or not self._has_room():
            self._waiting.append(due_s)
        else:
            self._start(due_s)

    def forget_waiting(self) -> int:
        """Drops the requests that were not sent; returns how many."""
        count = len(self._waiting)
        self._waiting.clear()
        return count

    def _has_room(self) -> bool:
        return len(self._open) < self._most_streams and self._window >= self._largest

    def _start(self, due_s: float) -> None:
        message = self._messages[self._next_message]
        self._next_message = (self._next_message + 1) % len(self._messages)
        if len(message) > self._stream_window:
            raise BenchError(
                f"a request has {len(message):,} bytes, and the server takes {self._stream_window:,} at once; "
                f"this generator sends smaller ones only"
            )
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._window -= len(message)
        self._open[stream] = due_s
        self._out += frame(_HEADERS, _END_HEADERS, stream, self._headers)
        for at in range(0, len(message), _FRAME_BYTES):
            is_last = at + _FRAME_BYTES >= len(message)
            self._out += frame(_DATA, _END_STREAM * is_last, stream, message[at : at + _FRAME_BYTES])

    def write(self) -> None:
        """Writes as much as the system accepts now."""
        try:
            sent = self.socket.send(self._out)
        except BlockingIOError:
            return
        del self._out[:sent]

    def read(self, ended: Ended) -> None:
        """Reads available bytes and reports the calls that ended.

        Raises:
            BenchError: the server closed the connection or broke the protocol.
        """
        try:
            received = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise BenchError(f"the connection broke: {error}") from error
        if not received:
            raise BenchError("the server closed the connection")
        for kind, flags, stream, payload in self._frames(received):
            if kind == _HEADERS:
                status = self._status(payload)
                if status is not None:
                    self._end(stream, status, ended)
                elif flags & _END_STREAM:
                    self._end(stream, RESET, ended)
            elif kind == _RST_STREAM:
                self._end(stream, RESET, ended)
            elif kind != _DATA:
                self._control(kind, flags, stream, payload)
        while self._waiting and self._has_room():
            self._start(self._waiting.popleft())

    def _frames(self, received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._in + received
        at, end = 0, len(data)
        while end - at >= _HEAD_BYTES:
            head, flags, stream = struct.unpack_from(">IBI", data, at)
            after = at + _HEAD_BYTES + (head >> 8)
            if after > end:
                break
            yield head & 0xFF, flags, stream, data[at + _HEAD_BYTES : after]
            at = after
        self._in = data[at:]

    def _status(self, block: bytes) -> int | None:
        # There are few distinct blocks, because no table is used.
        if block not in self._statuses:
            if len(self._statuses) > 10_000:
                self._statuses.clear()
            self._statuses[block] = status_in(block)
        return self._statuses[block]

    def _end(self, stream: int, status: int, ended: Ended) -> None:
        due_s = self._open.pop(stream, None)
        if due_s is not None:
            ended(due_s, status)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and not stream:
            self._window += struct.unpack(">I", payload)[0] & _LARGEST_WINDOW
        elif kind == _SETTINGS and not flags & _ACK:
            settings = dict(struct.iter_unpack(">HI", payload))
            self._most_streams = settings.get(_MAX_STREAMS, self._most_streams)
            self._stream_window = settings.get(_INITIAL_WINDOW, self._stream_window)
            self._out += frame(_SETTINGS, _ACK, 0)
        elif kind == _PING and not flags & _ACK:
            self._out += frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            raise BenchError(f"the server told the connection to go: {payload[8:208].decode(errors='replace')}")

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()
