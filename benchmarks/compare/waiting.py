"""HTTP/2 connections of waiting clients: idle after one call, or with unanswered calls."""

import socket
import ssl
import struct
from pathlib import Path
from typing import Self

import hpack

from . import frames
from .errors import LoadError
from .frames import FrameReader

TIMEOUT_S = 30.0
_RECEIVE_BYTES = 1 << 16


class WaitingConnection:
    """A connection that sends calls and stays open. Not thread-safe."""

    def __init__(self, port: int, ca: Path | None = None) -> None:
        """Connects to loopback, with TLS if a CA is given, and exchanges settings.

        Raises:
            LoadError: the server refused.
        """
        try:
            self._socket = _connected(port, ca)
        except OSError as error:
            raise LoadError(f"could not connect to port {port}: {error}") from error
        self._reader, self._decoder = FrameReader(), hpack.Decoder()
        self._calls = 0
        self._window = self._first_window = frames.DEFAULT_WINDOW
        self._statuses: dict[int, str] = {}
        self._socket.sendall(frames.opening())
        self.ping()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, block: bytes, message: bytes, count: int = 1) -> None:
        """Sends `count` calls, each with these headers and this gRPC-framed message.

        Raises:
            LoadError: the server does not accept this many bytes.
        """
        for _ in range(count):
            while len(message) > self._window:
                self._receive()
            stream = 1 + 2 * self._calls
            self._socket.sendall(
                frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
                + frames.frame(frames.DATA, frames.END_STREAM, stream, message)
            )
            self._window -= len(message)
            self._calls += 1

    def ping(self) -> None:
        """Returns once the server has read everything sent before."""
        self._is_answered = False
        self._socket.sendall(frames.frame(frames.PING, 0, 0, bytes(8)))
        while not self._is_answered:
            self._receive()

    def answers(self, count: int) -> None:
        """Waits until `count` calls are answered with OK.

        Raises:
            LoadError: a call was answered with an error.
        """
        while len(self._statuses) < count:
            self._receive()
        if bad := {status for status in self._statuses.values() if status != "0"}:
            raise LoadError(f"a call was answered with grpc-status {', '.join(bad)}")

    @property
    def answered(self) -> int:
        """Number of ended calls, as far as read; `ping` reads received frames."""
        return len(self._statuses)

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError as error:
            raise LoadError(f"the server sent nothing for {TIMEOUT_S:.0f} s") from error
        if not received:
            raise LoadError("the server closed a waiting connection")
        for came in self._reader.feed(received):
            self._take(came)

    def _take(self, came: frames.Frame) -> None:
        if came.kind in (frames.RST_STREAM, frames.GOAWAY):
            raise LoadError(f"the server closed the connection or call, frame type {came.kind}: {came.payload!r}")
        if came.kind == frames.HEADERS:
            fields = {str(name): str(value) for name, value in self._decoder.decode(came.payload)}
            if came.flags & frames.END_STREAM:
                self._statuses[came.stream] = fields.get("grpc-status", "none")
        elif came.kind == frames.WINDOW_UPDATE and came.stream == 0:
            self._window += struct.unpack(">I", came.payload)[0]
        elif came.kind == frames.PING and came.flags & frames.ACK:
            self._is_answered = True
        elif came.kind in (frames.SETTINGS, frames.PING) and not came.flags & frames.ACK:
            payload = came.payload if came.kind == frames.PING else b""
            self._socket.sendall(frames.frame(came.kind, frames.ACK, 0, payload))


def _connected(port: int, ca: Path | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    # Otherwise each connection waits 40 ms for the acknowledgement of its first bytes.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if ca is None:
        return plain
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except OSError:
        plain.close()
        raise
