"""The metrics port's connections, limited in number and duration."""

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
"""Maximum concurrent connections, each on its own thread. A server has a handful of scrapers and probes."""

MAX_HEAD_BYTES = 16 * 1024
"""Maximum bytes of a request's first line and headers. Prometheus sends a few hundred."""

# How long `close` waits for running scrapes.
_FLUSH_S = 5.0


def _refusal(status: str, sentence: str) -> bytes:
    """Returns a response that needs no request."""
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
# The first byte of a TLS connection; no HTTP request starts with it.
_TLS_HANDSHAKE = b"\x16"


class _HeadTooLong(Exception):
    """Sender error: the request's head is too long."""


class _Head(io.BufferedReader):
    """A connection's input, of which no more than a head is read.

    The library's limits, 100 lines of 64 KiB, would allow 6 MB per connection.
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
        # A renewed context applies to the next connection.
        self._tls = self.server.tls
        if self._tls is not None:
            # A copy, because the server cuts a connection off by its own socket.
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
                # Sends close_notify without waiting for the peer's.
                self.request.setblocking(False)
                self.request.unwrap()
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is http.server's
        """Logs nothing: scrapes come every few seconds."""


class BoundedServer(ThreadingMixIn, WSGIServer):
    """A WSGI server with one thread per connection, both limited.

    At MAX_CONNECTIONS, the oldest connection without a request line makes room for the next, so probes are answered
    while others hold idle connections. If all have sent one, the next gets 503 and is closed. A connection that lasts
    longer than `timeout_s` is cut off, whether it is silent, slow to send or slow to read.
    """

    # A hung scrape must not keep the process alive.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    # With the library's 5, further connections would wait a second or more for a SYN retry.
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
        """Binds the port (0: a free one).

        Args:
            host: the address.
            port: its port.
            app: answers the requests.
            timeout_s: seconds from a connection's arrival to its end.
            log_failure: logs unexpected errors.
            tls: encrypts connections, or None. Can be replaced for later connections.

        Raises:
            OSError: the port is in use or not permitted.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.tls = tls
        self._timeout_s = timeout_s
        self._log_failure = log_failure
        self._changed = threading.Condition()
        # When each open connection is cut off, by time.monotonic; under the condition's lock.
        self._ends_s: dict[socket.socket, float] = {}
        # The open connections without a request line, oldest first.
        self._silent: dict[socket.socket, None] = {}
        # Connections that had to make room, until their threads notice.
        self._leaving: set[socket.socket] = set()
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        # Skips HTTPServer's own, which looks up the host's name: that can take seconds and is not needed.
        super(WSGIServer, self).server_bind()
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection on its own thread, or refuses it."""
        with self._changed:
            has_room = len(self._ends_s) < MAX_CONNECTIONS or self._make_room()
            if has_room:
                self._ends_s[request] = time.monotonic() + self._timeout_s
                self._silent[request] = None
        if has_room:
            super().process_request(request, client_address)
            return
        # The accepting thread must not wait.
        request.setblocking(False)
        with suppress(OSError):
            request.send(_TOO_MANY)
        self.shutdown_request(request)

    def _make_room(self) -> bool:
        """Cuts off the oldest connection without a request; returns whether there was one. The lock is held."""
        if not self._silent or len(self._leaving) >= MAX_CONNECTIONS:
            return False
        oldest = next(iter(self._silent))
        self._forget(oldest)
        self._leaving.add(oldest)
        self._end([oldest], socket.SHUT_RDWR)
        return True

    def has_asked(self, request: socket.socket) -> None:
        """A connection sent a request's first line."""
        with self._changed:
            self._silent.pop(request, None)

    def _forget(self, request: socket.socket) -> None:
        self._ends_s.pop(request, None)
        self._silent.pop(request, None)

    def service_actions(self) -> None:
        """Cuts off expired connections; called at every turn of the accepting loop.

        A socket timeout applies to each byte, so one byte per second would hold a thread for hours.
        """
        now_s = time.monotonic()
        with self._changed:
            self._end([each for each, end_s in self._ends_s.items() if end_s <= now_s], socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        # Unread input would turn the close into a reset, which may overtake the response.
        with suppress(OSError):
            request.setblocking(False)
            request.recv(65536)
        # Before closing: its descriptor may be reused at once, and `_end` must not touch the new connection.
        with self._changed:
            self._forget(request)
            self._leaving.discard(request)
            self._changed.notify_all()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing: broken connections are normal."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self._log_failure(error)

    def close(self) -> None:
        """Stops accepting, waits for running requests, and closes."""
        self.shutdown()
        self.server_close()
        with self._changed:
            # A request sent from now on is too late; responses can still be written.
            self._end(list(self._ends_s), socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._ends_s, _FLUSH_S)

    @staticmethod
    def _end(connections: list[socket.socket], how: int) -> None:
        """Wakes the threads of these connections. The lock is held."""
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(how)
