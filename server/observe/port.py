"""The metrics port: /metrics, /live and /ready over HTTP."""

import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import choose_encoder

from ..access.authorizer import HEADER, Metadata
from ..errors import PermissionDenied, RequestError, StartupError, Unauthenticated
from ..failures import FailureLog
from ..supervised import Supervisor
from .connections import BoundedServer
from .metrics import Metrics

# Prometheus's default scrape timeout.
_TIMEOUT_S = 10.0


class MetricsServer:
    """Serves /metrics, /live and /ready over HTTP."""

    def __init__(
        self,
        metrics: Metrics,
        is_ready: Callable[[], bool],
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
        *,
        authorize: Callable[[Metadata], RequestError | None] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Does not open the port; see `bind`.

        Args:
            metrics: rendered by the page.
            is_ready: the answer of /ready.
            log_failure: logs errors of a page.
            supervisor: supervises the thread; None: only its failures are logged.
            authorize: returns why a request with these headers may not read the page, or None; None: all may read it.
            tls: encrypts connections, or None.
            timeout_s: maximum duration of a connection, in seconds.
        """
        self._metrics_app = make_wsgi_app(metrics.registry)
        self._is_ready = is_ready
        self._log_failure = log_failure
        self._authorize = authorize
        self._tls = tls
        self._timeout_s = timeout_s
        self._page_lock = threading.Lock()
        self._server: BoundedServer | None = None
        self._thread = (supervisor or Supervisor(log_failure)).thread("metrics", self._serve)

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one), starts serving and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted, or no thread can be started.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server = BoundedServer(host, port, self._app, self._timeout_s, self._log_failure, self._tls)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for metrics: {error.strerror}; "
                f"choose another with --metrics-port (0: a free one) or --host"
            ) from error
        try:
            self._thread.start()
        except RuntimeError as error:
            # Without its thread, closing it would wait forever.
            self._server.server_close()
            self._server = None
            raise StartupError(f"cannot serve metrics: {error}; raise the limit of threads or processes") from error
        return f"{shown}:{self._server.server_port}"

    def renew(self, tls: ssl.SSLContext) -> None:
        """Uses `tls` for new connections."""
        if self._server is not None:
            self._server.tls = tls

    def close(self) -> None:
        """Stops accepting, answers running requests, and closes."""
        if self._server is not None:
            self._server.close()
            self._thread.close()

    def _serve(self) -> None:
        if self._server is not None:
            # `close` waits for the next poll; the default of half a second is long for a stopping server.
            self._server.serve_forever(0.1)

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            refused = self._authorize(_credentials(environ)) if self._authorize else None
            return _refuse(start_response, refused) if refused else self._page(environ, start_response)
        if path == "/live":
            return _text(start_response, "200 OK", "live")
        if path == "/ready":
            ready = self._is_ready()
            return _text(start_response, "200 OK" if ready else "503 Service Unavailable", f"ready: {ready}".lower())
        return _text(start_response, "404 Not Found", "here are /metrics, /live and /ready")

    def _page(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _is_readable(environ.get("HTTP_ACCEPT", "")):
            sentence = "invalid version in the Accept header; omit it to get the text format"
            return _text(start_response, "400 Bad Request", sentence)
        # Rendering two pages at once would not be faster, but would take the interpreter from requests twice as often.
        # Half of the timeout, so the other half is left to answer 503.
        if not self._page_lock.acquire(timeout=self._timeout_s / 2):
            return _text(start_response, "503 Service Unavailable", "another page is still being made; try later")
        try:
            page: Iterable[bytes] = self._metrics_app(environ, start_response)
            return page
        finally:
            self._page_lock.release()


def _is_readable(accept: str) -> bool:
    """Returns whether the library can parse this Accept header; it raises for a version such as 1.x."""
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return False
    return True


def _credentials(environ: dict[str, Any]) -> Metadata:
    """Yields the request's token; wsgiref joins two headers by a comma, which no token contains."""
    value = environ.get("HTTP_AUTHORIZATION")
    return () if value is None else ((HEADER, value),)


def _refuse(start_response: Callable[..., Any], error: RequestError) -> Iterable[bytes]:
    if isinstance(error, Unauthenticated):
        challenge = ("WWW-Authenticate", 'Bearer realm="pixelserve"')
        return _text(start_response, "401 Unauthorized", str(error), challenge)
    status = "403 Forbidden" if isinstance(error, PermissionDenied) else "429 Too Many Requests"
    return _text(start_response, status, str(error))


def _text(start_response: Callable[..., Any], status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [text.encode() + b"\n"]
