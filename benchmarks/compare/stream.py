"""Load by a generator of our own, where every request may have an id and pixels of its own.

h2load sends one body. Here the frames of many requests are made at once by numpy, sent as bytes, and the answers
counted by their frame heads, so that Python does little per request. Every answer's grpc-status is checked, and one
in SAMPLE_EVERY also for its id and values, after the measurement.
"""

import socket
import struct
import time
from collections.abc import Callable

import hpack
import numpy as np

from pixelserve.oip import inference_pb2 as pb

from . import frames
from .bodies import Images, Oracle
from .errors import LoadError
from .frames import Frame, FrameReader, RequestFrames

SAMPLE_EVERY = 1009
CHUNK = 512
RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 30.0


class StreamLoad:
    """Measures one server; each run has a connection of its own. One thread."""

    def __init__(self, port: int, images: Images, oracle: Oracle, in_flight: int) -> None:
        """Stores what it is given; `images` [N, 28, 28, 1] are sent in turn."""
        self._port, self._images, self._oracle, self._in_flight = port, images, oracle, in_flight
        self._next_number = 1

    def requests_per_s(self, *, distinct: bool, seconds: float, warm_up_s: float) -> float:
        """Returns answers a second; `distinct` gives every request an id and pixels that no other had.

        Raises:
            LoadError: an answer was an error, or wrong, or there was none in that time.
        """
        marks: list[tuple[float, int]] = []
        start_s = time.perf_counter()

        def wants_more(answered: int) -> bool:
            now_s = time.perf_counter()
            if not marks and now_s - start_s >= warm_up_s:
                marks.append((now_s, answered))
            if marks and now_s - marks[0][0] >= seconds:
                marks.append((now_s, answered))
                return False
            return True

        self._run(wants_more, distinct=distinct)
        (begin_s, before), (end_s, after) = marks[0], marks[-1]
        if after == before:
            raise LoadError("no request was answered in the time of the measurement")
        return (after - before) / (end_s - begin_s)

    def send(self, requests: int, progress: Callable[[int], None]) -> None:
        """Sends so many distinct requests; tells `progress` how many are answered, now and then.

        Raises:
            LoadError: an answer was an error, or wrong.
        """
        told = 0

        def wants_more(answered: int) -> bool:
            nonlocal told
            if answered - told >= SAMPLE_EVERY:
                progress(answered)
                told = answered
            return answered < requests

        self._run(wants_more, distinct=True, limit=requests)

    def _run(self, wants_more: Callable[[int], bool], *, distinct: bool, limit: int | None = None) -> None:
        first = self._next_number if distinct else 0
        with _Connection(self._port, self._images, first, distinct=distinct) as connection:
            connection.run(self._in_flight, wants_more, limit)
        if distinct:
            self._next_number += connection.sent
        for order, message in connection.samples.items():
            number = first + order if distinct else first
            image = frames.stamp(self._images, number)
            if not self._oracle.is_right(pb.ModelInferResponse.FromString(message), image, frames.identity(number)):
                raise LoadError(f"the answer to request {number} of our own generator is wrong")


class _Connection:
    """One HTTP/2 connection that keeps a number of calls in flight."""

    def __init__(self, port: int, images: Images, first_number: int, *, distinct: bool) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = RequestFrames(images, f"127.0.0.1:{port}")
        self._first_number, self._step = first_number, int(distinct)
        self._reader, self._decoder = FrameReader(), hpack.Decoder()
        self._good_blocks: set[bytes] = set()
        self._window = frames.DEFAULT_WINDOW
        self._made, self._unsent = 0, memoryview(b"")
        self.sent = self.answered = 0
        self.samples: dict[int, bytes] = {}
        """Messages of some answers, by the order of their requests."""

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, in_flight: int, wants_more: Callable[[int], bool], limit: int | None) -> None:
        """Sends requests as long as more are wanted, at most `limit`, and waits for all answers."""
        self._socket.sendall(frames.opening())
        more = True
        while more or self.answered < self.sent:
            if more:
                wanted = in_flight - (self.sent - self.answered)
                self._send(wanted if limit is None else min(wanted, limit - self.sent))
            self._receive()
            more = more and wants_more(self.answered)

    def _send(self, wanted: int) -> None:
        """Sends so many requests, or as many as the connection's window takes."""
        count = min(wanted, self._window // self._requests.message_bytes)
        if count <= 0:
            return
        if len(self._unsent) < count * self._requests.request_bytes:
            self._make_more()
        cut = count * self._requests.request_bytes
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
                self.answered += 1
        elif came.kind == frames.DATA:
            order = came.stream >> 1
            if order % SAMPLE_EVERY == 0:
                # The message follows gRPC's five bytes; an answer of this size is one frame.
                self.samples[order] = came.payload[5:]
        elif came.kind == frames.WINDOW_UPDATE:
            if came.stream == 0:
                self._window += struct.unpack(">I", came.payload)[0]
        elif came.kind in (frames.RST_STREAM, frames.GOAWAY):
            raise LoadError(f"the server broke off, frame type {came.kind}: {came.payload!r}")
        elif came.kind in (frames.SETTINGS, frames.PING) and not came.flags & frames.ACK:
            self._acknowledge(came)

    def _check(self, came: Frame) -> None:
        """Reads a header block that was not seen before; an error in it ends the measurement."""
        if not came.flags & frames.END_HEADERS:
            raise LoadError("an answer's headers are in several frames, which this generator does not read")
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
            raise LoadError(f"the server takes {window} bytes a stream, less than a request of this generator")
