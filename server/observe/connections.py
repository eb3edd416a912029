"""The metrics port's connections: few at once, none for long, whatever comes on them."""

import io
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from ..failures import FailureLog

MAX_CONNECTIONS = 32
"""Connections that are served at once, each by a thread. Scrapers and probes of one server are a handful."""

MAX_HEAD_BYTES = 16 * 1024
"""Bytes of a request's first line and headers. Prometheus sends a few hundred."""

# What `close` gives scrapes that have begun.
_FLUSH_S = 5.0


def _refusal(status: str, sentence: str) -> bytes:
    """Returns an answer that is sent without a request having been read."""
    body = f"{sentence}\n".encode()
    head = f"HTTP/1.0 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


_TOO_MANY = _refusal(
    "503 Service Unavailable", f"the metrics port serves {MAX_CONNECTIONS} connections at once, and has them; try later"
)
_TOO_LONG = _refusal(
    "431 Request Header Fields Too Large", f"the first line and the headers may have {MAX_HEAD_BYTES} bytes; send fewer"
)


_NOT_TLS = _refusal(
    "400 Bad Request", "the metrics port speaks HTTP without TLS; use http://, or start it with --metrics-tls"
)
_ONLY_TLS = _refusal("400 Bad Request", "the metrics port speaks TLS only; use https://")
# The first byte of a TLS connection; no request begins so.
_TLS_HANDSHAKE = b"\x16"


class _HeadTooLong(Exception):
    """The sender's fault: its request's head is longer than it may be."""


class _Head(io.BufferedReader):
    """What a connection sends, of which no more than a head's worth is read.

    The library bounds each line to 64 KiB and their number to 100, which would be 6 MB to hold and to parse.
    """

    _left = MAX_HEAD_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise _HeadTooLong
        return line


class _Handler(WSGIRequestHandler):
    server: "BoundedServer"

    def setup(self) -> None:
        self._connection = self.request
        # A context that takes the other's place while this connection lasts is for the next one.
        self._tls = self.server.tls
        if self._tls is not None:
            # A copy: the server cuts a connection off by the socket that it knows.
            self.request = self._tls.wrap_socket(self.request.dup(), server_side=True, do_handshake_on_connect=False)
        super().setup()
        self.rfile = _Head(self.rfile.detach())

    def parse_request(self) -> bool:
        self.server.has_asked(self._connection)
        return super().parse_request()

    def handle(self) -> None:
        try:
            if self._tls is not None:
                self.request.do_handshake()
            elif self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:  # type: ignore[attr-defined]  # it is a _Head
                self.wfile.write(_NOT_TLS)
                return
            super().handle()
        except _HeadTooLong:
            self.wfile.write(_TOO_LONG)
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                self._connection.sendall(_ONLY_TLS)

    def finish(self) -> None:
        super().finish()
        if self._tls is not None:
            with suppress(OSError):
                # Says that this is the end, and does not wait until the other side says so too.
                self.request.setblocking(False)
                self.request.unwrap()
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is http.server's
        """A scrape every few seconds is no event."""


class BoundedServer(ThreadingMixIn, WSGIServer):
    """A WSGI server with a thread a connection, and a bound on both.

    Where there are MAX_CONNECTIONS, the one that has sent no request line for the longest time makes room for the next:
    a probe must be answered while others hold on to connections. Where all have sent one, the next is told 503 and
    closed. A connection that is not over after `timeout_s` is cut off, be it silent, slow to send or slow to read.
    """

    # A scrape that hangs must not keep the process alive.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    # With the library's 5, connections beyond would wait a second or more for the kernel's next attempt.
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        app: WSGIApplication,
        timeout_s: float,
        log_failure: FailureLog,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Takes the port (0: a free one).

        Args:
            host: the address.
            port: its port.
            app: answers the requests.
            timeout_s: seconds from a connection's arrival to its end.
            log_failure: logs what should not happen.
            tls: encrypts the connections; None: they are not. May be replaced, for connections that come later.

        Raises:
            OSError: it is in use or not ours to take.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.tls = tls
        self._timeout_s = timeout_s
        self._log_failure = log_failure
        self._changed = threading.Condition()
        # When each open connection is cut off, by time.monotonic; under the condition's lock.
        self._ends_s: dict[socket.socket, float] = {}
        # Of these, the ones that have sent no request line yet, the oldest first.
        self._silent: dict[socket.socket, None] = {}
        # Those that had to make room, until their threads have noticed.
        self._leaving: set[socket.socket] = set()
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        # Past HTTPServer's own, which looks the host's name up: that can take seconds, and nothing needs it.
        super(WSGIServer, self).server_bind()
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Has a connection served on a thread of its own, or refuses it."""
        with self._changed:
            has_room = len(self._ends_s) < MAX_CONNECTIONS or self._make_room()
            if has_room:
                self._ends_s[request] = time.monotonic() + self._timeout_s
                self._silent[request] = None
        if has_room:
            super().process_request(request, client_address)
            return
        # The thread that takes connections waits for nobody.
        request.setblocking(False)
        with suppress(OSError):
            request.send(_TOO_MANY)
        self.shutdown_request(request)

    def _make_room(self) -> bool:
        """Cuts off the oldest connection that has asked for nothing; returns whether there was one. The condition's
        lock is held."""
        if not self._silent or len(self._leaving) >= MAX_CONNECTIONS:
            return False
        oldest = next(iter(self._silent))
        self._forget(oldest)
        self._leaving.add(oldest)
        self._end([oldest], socket.SHUT_RDWR)
        return True

    def has_asked(self, request: socket.socket) -> None:
        """Says that a connection has sent a request's first line."""
        with self._changed:
            self._silent.pop(request, None)

    def _forget(self, request: socket.socket) -> None:
        self._ends_s.pop(request, None)
        self._silent.pop(request, None)

    def service_actions(self) -> None:
        """Cuts off the connections whose time is over; called at every turn of the loop that takes them.

        A timeout of the socket would be for each byte alone, and one byte a second would hold a thread for hours.
        """
        now_s = time.monotonic()
        with self._changed:
            self._end([each for each, end_s in self._ends_s.items() if end_s <= now_s], socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        # What is left unread would make this a reset, which may overtake the answer.
        with suppress(OSError):
            request.setblocking(False)
            request.recv(65536)
        # Before it is closed: its number may be another connection's right afterwards, which `_end` must not touch.
        with self._changed:
            self._forget(request)
            self._leaving.discard(request)
            self._changed.notify_all()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is no event."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self._log_failure(error)

    def close(self) -> None:
        """Takes no more connections, waits until the requests that are there are answered, and ends."""
        self.shutdown()
        self.server_close()
        with self._changed:
            # Whoever has not sent a request by now sends it too late; an answer can still be written.
            self._end(list(self._ends_s), socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._ends_s, _FLUSH_S)

    @staticmethod
    def _end(connections: list[socket.socket], how: int) -> None:
        """Wakes the threads of these connections. The condition's lock is held."""
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(how)
