"""A client that sends arbitrary HTTP/2 frames, including those that libraries refuse to send."""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from hpack import Encoder
from hpack.hpack import Decoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

TIMEOUT_S = 30
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
FRAME_BYTES = 16_384
WINDOW_BYTES = 65_535
INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"

Headers = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame as it is on the wire; nothing about it is checked."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call_headers(path: str = INFER, extra: Headers = ()) -> list[tuple[str, str]]:
    """Returns the headers of a gRPC call."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return [*pseudo, ("te", "trailers"), ("content-type", "application/grpc"), *extra]


def block(headers: Headers) -> bytes:
    """Returns headers packed without the dynamic table, so that any connection may send it at any time."""
    return bytes(Encoder().encode([(name.encode(), value.encode()) for name, value in headers], huffman=False))


def unindexed(name: bytes, value: bytes, *, kept: bool = False) -> bytes:
    """Returns one header as it is, in lengths below 128 or any; where `kept`, it goes into the dynamic table."""
    return bytes([0x40 if kept else 0]) + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    size, out = len(text), bytearray()
    if size < 127:
        return bytes([size]) + text
    out.append(127)
    size -= 127
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    out.append(size)
    return bytes(out) + text


def message(data: bytes, *, flag: int = 0, declared: int | None = None) -> bytes:
    """Returns a gRPC message with its prefix, which may lie."""
    return struct.pack(">BI", flag, len(data) if declared is None else declared) + data


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    """Headers and trailers."""
    data: bytes = b""
    reset: int | None = None
    """The code of a reset."""
    has_ended: bool = False

    @property
    def status(self) -> int | None:
        """The gRPC status; None where there is none."""
        code = self.headers.get("grpc-status")
        return None if code is None else int(code)


class RawConnection:
    """One connection. A thread reads what comes, keeps it, and acknowledges settings and pings."""

    def __init__(
        self,
        target: str,
        settings: dict[int, int] | None = None,
        *,
        greets: bool = True,
        reads: bool = True,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        """Connects.

        Args:
            target: host:port.
            settings: sent with the preface.
            greets: sends the preface.
            reads: reads what comes; else the server's output piles up.
            receive_buffer_bytes: the kernel's buffer for what comes.
        """
        self.answers: dict[int, Answer] = {}
        self.frames: Counter[str] = Counter()
        """How many of each kind came."""
        self.goaway: int | None = None
        """The code with which the server ends the connection."""
        self.is_closed = False
        """The server has closed the connection."""
        self._next_stream = 1
        self._decoder = Decoder()
        self._windows = {0: WINDOW_BYTES}
        self._initial_window = WINDOW_BYTES
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._acknowledgements: deque[bytes] = deque()
        self._socket = socket.socket()
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.settimeout(TIMEOUT_S)
        host, _, port = target.rpartition(":")
        self._socket.connect((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        if greets:
            self.send(PREFACE, SettingsFrame(settings=settings or {}).serialize())
        if reads:
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, abruptly where anything is unread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.ident is not None:
            self._reader.join()
        self._socket.close()

    @property
    def has_ended(self) -> bool:
        """The server wants nothing more of it."""
        return self.is_closed or self.goaway is not None

    def send(self, *parts: bytes) -> bool:
        """Sends bytes; returns whether the server still takes them."""
        with self._sending:
            acknowledgements = b"".join(self._take_acknowledgements())
            try:
                self._socket.sendall(acknowledgements + b"".join(parts))
            except OSError:
                with self._changed:
                    self.is_closed = True
                    self._changed.notify_all()
        return not self.has_ended

    def set_timeout(self, timeout_s: float) -> None:
        """Gives up sending after so many seconds, as if the server had closed the connection."""
        self._socket.settimeout(timeout_s)

    def next_stream(self) -> int:
        """Returns the number of a new stream."""
        self._next_stream += 2
        return self._next_stream - 2

    def call(
        self, data: bytes | None = None, path: str = INFER, *, headers: Headers | None = None, ends: bool = True
    ) -> int:
        """Starts a call, and sends what may be its message with its prefix; returns the stream's number.

        Args:
            data: must fit the windows; None: nothing but the headers.
            path: the method.
            headers: in place of a gRPC call's.
            ends: nothing more will come.
        """
        stream = self.next_stream()
        head = HeadersFrame(stream, block(call_headers(path) if headers is None else headers), flags=["END_HEADERS"])
        if data is None:
            if ends:
                head.flags.add("END_STREAM")
            self.send(head.serialize())
            return stream
        chunks = [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)] or [b""]
        bodies = [DataFrame(stream, chunk).serialize() for chunk in chunks[:-1]]
        last = DataFrame(stream, chunks[-1], flags=["END_STREAM"] if ends else [])
        with self._changed:
            self._windows[0] -= len(data)
        self.send(head.serialize(), *bodies, last.serialize())
        return stream

    def headers(self, stream: int, headers: Headers, *, ends: bool) -> None:
        """Sends headers on a stream that is there: trailers."""
        one = HeadersFrame(stream, block(headers), flags=["END_HEADERS"])
        if ends:
            one.flags.add("END_STREAM")
        self.send(one.serialize())

    def finish(self, stream: int) -> None:
        """Says that nothing more of a call's message will come."""
        self.send(DataFrame(stream, flags=["END_STREAM"]).serialize())

    def upload(self, stream: int, chunk: bytes, times: int, *, stall_s: float = 2) -> int:
        """Sends a chunk of at most one frame again and again, as the windows allow; returns how many bytes went.

        Gives up where the stream has ended or no window opens for `stall_s` seconds.
        """
        sent = 0
        for _ in range(times):
            if not self._take_window(stream, len(chunk), stall_s):
                break
            if not self.send(DataFrame(stream, chunk).serialize()):
                break
            sent += len(chunk)
        return sent

    def _take_window(self, stream: int, size: int, stall_s: float) -> bool:
        with self._changed:
            self._windows.setdefault(stream, self._initial_window)
            self._changed.wait_for(
                lambda: self._has_stopped(stream) or min(self._windows[0], self._windows[stream]) >= size, stall_s
            )
            if self._has_stopped(stream) or min(self._windows[0], self._windows[stream]) < size:
                return False
            self._windows[0] -= size
            self._windows[stream] -= size
            return True

    def _has_stopped(self, stream: int) -> bool:
        answer = self.answers.get(stream)
        return self.has_ended or (answer is not None and answer.has_ended)

    def wait(self, condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
        """Waits until a condition of what came holds; returns whether it does."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def answer(self, stream: int, timeout_s: float = TIMEOUT_S) -> Answer:
        """Waits until a stream has ended, or the connection."""
        assert self.wait(lambda: self._has_stopped(stream), timeout_s), "the stream has no end"
        return self.answers.get(stream, Answer())

    def _read(self) -> None:
        buffer = bytearray()
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            with self._changed:
                for each in _frames(buffer):
                    self._take(each)
                self._changed.notify_all()
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def _take(self, one: Frame) -> None:
        self.frames[type(one).__name__] += 1
        answer = self.answers.setdefault(one.stream_id, Answer()) if one.stream_id else None
        if isinstance(one, HeadersFrame) and answer:
            # A refusal may quote the request, which may not be text.
            pairs = self._decoder.decode(one.data, raw=True)
            answer.headers |= {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        elif isinstance(one, DataFrame) and answer:
            answer.data += one.data
        elif isinstance(one, RstStreamFrame) and answer:
            # What is sent on after it may be answered with another.
            answer.reset = one.error_code if answer.reset is None else answer.reset
            answer.has_ended = True
        elif isinstance(one, WindowUpdateFrame):
            before = self._windows.get(one.stream_id, self._initial_window)
            self._windows[one.stream_id] = before + one.window_increment
        elif isinstance(one, GoAwayFrame):
            self.goaway = one.error_code
        elif isinstance(one, SettingsFrame) and "ACK" not in one.flags:
            self._initial_window = one.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._initial_window)
            self._acknowledge(SettingsFrame(flags=["ACK"]))
        elif isinstance(one, PingFrame) and "ACK" not in one.flags:
            self._acknowledge(PingFrame(opaque_data=one.opaque_data, flags=["ACK"]))
        if answer and "END_STREAM" in one.flags:
            answer.has_ended = True

    def _acknowledge(self, one: Frame) -> None:
        self._acknowledgements.append(one.serialize())
        # A sending thread takes it along. Waiting for it could block forever: its data may be accepted only after
        # we have read.
        if self._sending.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    self._socket.sendall(b"".join(self._take_acknowledgements()))
            finally:
                self._sending.release()

    def _take_acknowledgements(self) -> Iterator[bytes]:
        while self._acknowledgements:
            yield self._acknowledgements.popleft()


def _frames(buffer: bytearray) -> Iterator[Frame]:
    """Takes the whole frames out of a buffer."""
    while len(buffer) >= HEADER_BYTES:
        one, size = Frame.parse_frame_header(memoryview(bytes(buffer[:HEADER_BYTES])))
        if len(buffer) < HEADER_BYTES + size:
            return
        one.parse_body(memoryview(bytes(buffer[HEADER_BYTES : HEADER_BYTES + size])))
        del buffer[: HEADER_BYTES + size]
        yield one


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Waits until a condition holds; returns whether it does."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def many(part: Callable[[int], bytes], count: int, size: int = 500) -> Iterable[bytes]:
    """Yields `count` parts, numbered, some hundreds of them joined."""
    for start in range(0, count, size):
        yield b"".join(part(number) for number in range(start, min(start + size, count)))
