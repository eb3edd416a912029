"""The metrics port: /metrics, /live and /ready over HTTP."""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from ..errors import StartupError
from .metrics import Metrics


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A scrape that hangs must not keep the process alive.
    block_on_close = False
    # Looking the host's name up can take seconds and nothing needs it.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        super(WSGIServer, self).server_bind()
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is http.server's
        """A scrape every few seconds is no event."""


class MetricsServer:
    """Serves /metrics, /live and /ready over HTTP."""

    def __init__(self, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        """Stores what it is handed; `bind` takes the port."""
        self._metrics_app = make_wsgi_app(metrics.registry)
        self._is_ready = is_ready
        self._server: WSGIServer | None = None

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one), starts serving and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server = make_server(host, port, self._app, _Server, _QuietHandler)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for metrics: {error.strerror}; "
                f"choose another with --metrics-port (0: a free one) or --host"
            ) from error
        # `close` waits until the thread looks up; half a second, the default, is long for a server that stops.
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
        return f"{shown}:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics_app(environ, start_response)
            return page
        if path == "/live":
            return _text(start_response, "200 OK", "live")
        if path == "/ready":
            ready = self._is_ready()
            return _text(start_response, "200 OK" if ready else "503 Service Unavailable", f"ready: {ready}".lower())
        return _text(start_response, "404 Not Found", "here are /metrics, /live and /ready")


def _text(start_response: Callable[..., Any], status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
