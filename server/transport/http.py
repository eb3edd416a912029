"""uvicorn: carries the HTTP API, on an event loop and a thread of its own."""

import asyncio
import socket
import threading
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from ..errors import StartupError
from ..failures import FailureLog

# Clients keep connections for later; load balancers expect to be the ones who close them, most after a minute.
_KEEP_ALIVE_S = 75
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """A server that is told when to stop. uvicorn's own looks ten times a second, and idle must cost nothing."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Event | None = None
        self.is_running = threading.Event()

    async def main_loop(self) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        self.is_running.set()
        await self._told.wait()

    def end(self) -> None:
        if self._loop is not None and self._told is not None:
            # A loop that has ended needs not be told.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._told.set)


class HttpTransport:
    """Owns the HTTP port. `bind`, `start` and `stop` are called once, in this order."""

    def __init__(self, log_failure: FailureLog) -> None:
        """Stores what it is handed: what is told of an exception that ends the thread, against all rules."""
        self._log_failure = log_failure
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        shown = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for HTTP: {error.strerror}; "
                f"choose another with --http-port (0: a free one) or --host, or do without it (--no-http)"
            ) from error
        # Every connection inherits it. uvicorn sends an answer's head and body apart, and the body would wait for the
        # client's delayed acknowledgement, 40 ms. asyncio sets it only if the socket was made with IPPROTO_TCP.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return f"{shown}:{self._socket.getsockname()[1]}"

    def start(self, app: ASGIApp, grace_s: float) -> None:
        """Starts answering.

        Args:
            app: answers the requests.
            grace_s: how long `stop` waits for answers to be sent.
        """
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            backlog=_BACKLOG,
            # What it would log is one line for every malformed request, in another format than ours.
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            # It is set by the loop that ticks.
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(grace_s)),
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._serve, args=(self._server,), name="http", daemon=True)
        self._thread.start()
        # Without an end where the thread fails: it says so itself.
        while not self._server.is_running.wait(0.05) and self._thread.is_alive():
            pass

    def stop(self) -> None:
        """Takes no more connections, waits until the answers that are there are sent, and ends."""
        if self._server is not None and self._thread is not None:
            self._server.end()
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def _serve(self, server: _Server) -> None:
        try:
            asyncio.run(server.serve(sockets=[self._socket] if self._socket else None))
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise it to
            self._log_failure(error)
