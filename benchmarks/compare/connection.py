"""An HTTP/2 connection of our load generator: sends prepared bytes, and recognises answers by their frame headers."""

import socket
import struct
import time
from collections.abc import Callable
from typing import Self

import hpack
import numpy as np

from . import frames
from .bodies import Images
from .errors import LoadError
from .frames import Frame, FrameReader, RequestFrames

SAMPLE_EVERY = 1009
CHUNK = 512
RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 30.0


class Connection:
    """Keeps a number of ModelInfer calls in flight. Not thread-safe."""

    def __init__(self, port: int, images: Images, first_number: int, *, distinct: bool, timed: bool = False) -> None:
        """Connects.

        Args:
            port: the server's port on loopback.
            images: [N, 28, 28, 1], sent in turn.
            first_number: number of the first request.
            distinct: whether request numbers increase; otherwise all have the first one.
            timed: whether to record send and answer times.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = RequestFrames(images, f"127.0.0.1:{port}")
        self._first_number, self._step = first_number, int(distinct)
        self._reader, self._decoder = FrameReader(), hpack.Decoder()
        self._good_blocks: set[bytes] = set()
        self._window = frames.DEFAULT_WINDOW
        self._made, self._unsent = 0, memoryview(b"")
        self._timed = timed
        self.sent = self.answered = 0
        self.samples: dict[int, bytes] = {}
        """Messages of some answers, by request index."""
        self.sent_s: list[float] = []
        """Send times by `time.perf_counter()`, in order; empty unless timed."""
        self.answered_s: dict[int, float] = {}
        """Answer times by request index; empty unless timed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, in_flight: int, wants_more: Callable[[int], bool], limit: int | None) -> None:
        """Sends requests while `wants_more` returns True, at most `limit`, and waits for all answers.

        Raises:
            LoadError: an answer was an error or missing.
        """
        self._socket.sendall(frames.opening())
        more = True
        while more or self.answered < self.sent:
            if more:
                wanted = in_flight - (self.sent - self.answered)
                self._send(wanted if limit is None else min(wanted, limit - self.sent))
            self._receive()
            more = more and wants_more(self.answered)

    def _send(self, wanted: int) -> None:
        """Sends up to `wanted` requests, within the connection's window."""
        count = min(wanted, self._window // self._requests.message_bytes)
        if count <= 0:
            return
        if len(self._unsent) < count * self._requests.request_bytes:
            self._make_more()
        cut = count * self._requests.request_bytes
        if self._timed:
            self.sent_s += [time.perf_counter()] * count
        self._socket.sendall(self._unsent[:cut])
        self._unsent = self._unsent[cut:]
        self._window -= count * self._requests.message_bytes
        self.sent += count

    def _make_more(self) -> None:
        numbers = self._first_number + self._step * np.arange(self._made, self._made + CHUNK)
        more = self._requests.make(1 + 2 * self._made, numbers)
        self._unsent = memoryview(bytes(self._unsent) + more)
        self._made += CHUNK

    def _receive(self) -> None:
        try:
            received = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError as error:
            raise LoadError(f"no answer for {TIMEOUT_S:.0f} s with {self.sent - self.answered} in flight") from error
        if not received:
            raise LoadError("the server closed the connection")
        for came in self._reader.feed(received):
            self._take(came)

    def _take(self, came: Frame) -> None:
        if came.kind == frames.HEADERS:
            if came.payload not in self._good_blocks:
                self._check(came)
            if came.flags & frames.END_STREAM:
                self._count(came.stream >> 1)
        elif came.kind == frames.DATA:
            order = came.stream >> 1
            if order % SAMPLE_EVERY == 0:
                # The message follows gRPC's 5-byte prefix; an answer of this size is one frame.
                self.samples[order] = came.payload[5:]
        else:
            self._control(came)

    def _count(self, order: int) -> None:
        self.answered += 1
        if self._timed:
            self.answered_s[order] = time.perf_counter()

    def _control(self, came: Frame) -> None:
        """Handles frames other than answers."""
        if came.kind == frames.WINDOW_UPDATE:
            if came.stream == 0:
                self._window += struct.unpack(">I", came.payload)[0]
        elif came.kind in (frames.RST_STREAM, frames.GOAWAY):
            raise LoadError(f"the server closed the connection or call, frame type {came.kind}: {came.payload!r}")
        elif came.kind in (frames.SETTINGS, frames.PING) and not came.flags & frames.ACK:
            self._acknowledge(came)

    def _check(self, came: Frame) -> None:
        """Reads a new header block; an error in it ends the measurement."""
        if not came.flags & frames.END_HEADERS:
            raise LoadError("an answer's headers are in several frames, which this generator does not support")
        fields = dict(self._decoder.decode(came.payload, raw=True))
        wanted = {b"grpc-status": b"0"} if came.flags & frames.END_STREAM else {b":status": b"200"}
        if not fields.items() >= wanted.items():
            raise LoadError(f"a request failed: {fields}")
        self._good_blocks.add(came.payload)

    def _acknowledge(self, came: Frame) -> None:
        if came.kind == frames.PING:
            self._socket.sendall(frames.frame(frames.PING, frames.ACK, 0, came.payload))
            return
        self._socket.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        window = frames.settings(came.payload).get(frames.INITIAL_WINDOW_SIZE, frames.DEFAULT_WINDOW)
        if window < self._requests.message_bytes:
            raise LoadError(f"the server accepts {window} bytes per stream, less than a request of this generator")
