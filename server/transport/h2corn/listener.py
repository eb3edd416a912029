"""A port of h2corn: a socket, an event loop on its own thread, and the servers that accept its connections.

h2corn reads certificates once, and does not limit the age of connections. So a server is replaced by one on the same
socket: the new one accepts new connections, while the old one sends GOAWAY and finishes its calls in flight. Renewed
certificates, the age of connections and a drain all work this way.
"""

import asyncio
import functools
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ...deadline import Deadline
from ...errors import StartupError
from ...failures import FailureLog
from ...supervised import SupervisedThread, Supervisor
from ..linger import close_when_sent, held_connections, unsent
from .entrance import Entrance
from .library import h2corn
from .lingering import Lingering
from .loop import PortLoop

if TYPE_CHECKING:
    from ..certificates import CertificateFiles, Certificates

_BACKLOG = 1024
# Time for clients to send the rest of a request when the port closes.
_REST_S = 1.0
_LOOK_S = 0.02
# Time for the loop to notice that a deadline has passed.
_ENDING_S = 0.2
# Pause between a server that ended by itself and the next.
_REVIVE_S = 0.1

T = TypeVar("T")


class App(Protocol):
    """An ASGI application that reports its activity. Belongs to the loop's thread."""

    @property
    def reading(self) -> int:
        """Number of incomplete requests, once all complete ones are answered."""

    @property
    def sending(self) -> int:
        """Number of unsent answers, as far as it knows."""

    def __call__(self, scope: Any, receive: Any, send: Any, /) -> Coroutine[Any, Any, None]:
        """Returns the coroutine that handles a request."""


MakeApp = Callable[[], App]
"""Creates the application; called on the loop's thread."""
MakeConfig = Callable[[str, "CertificateFiles | None"], h2corn.Config]
"""Returns the configuration for a socket (fd://NUMBER for h2corn) and certificates (None: no TLS)."""


class Listener:
    """One port. `bind`, `start` and `stop` are called once, in this order.

    Args:
        name: its protocol, such as gRPC.
        remedies: what to do if its port cannot be bound.
        make_config: called for every new server.
        certificates: encrypt its connections; None: no TLS.
        log_failure: logs what ends a server unexpectedly.
        supervisor: supervises the loop's thread; None: only its failures are logged.
    """

    def __init__(
        self,
        name: str,
        remedies: str,
        make_config: MakeConfig,
        certificates: "Certificates | None",
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._name = name
        self._remedies = remedies
        self._make_config = make_config
        self._certificates = certificates
        self._log_failure = log_failure
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor = supervisor or Supervisor(log_failure)
        self._lingering: Lingering
        self._thread: SupervisedThread | None = None
        self._app: App
        self._entrance: Entrance
        self._server: h2corn.Server | None = None
        # Superseded servers whose connections have not been sent GOAWAY.
        self._leaving: list[h2corn.Server] = []
        # Certificates are renewed on one thread, connections are replaced on another.
        self._replacing = threading.Lock()
        self._serving: set[asyncio.Task[None]] = set()
        self._reviving: asyncio.Task[None] | None = None

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """
        shown = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for {self._name}: {error.strerror}; choose another with "
                f"{self._remedies}"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return f"{shown}:{self._socket.getsockname()[1]}"

    def start(self, make_app: MakeApp) -> None:
        """Starts the thread, and returns when connections are accepted.

        Raises:
            StartupError: h2corn failed to start.
        """
        self._loop = PortLoop()
        self._lingering = Lingering(self._loop)
        self._thread = self._supervisor.thread(self._name, functools.partial(self._run, self._loop))
        self._thread.start()
        try:
            self._call(self._begin(make_app))
        except Exception as error:
            raise StartupError(f"cannot serve {self._name}: {error}") from error

    def renew(self, certificates: "Certificates | None") -> None:
        """Starts another server for new connections, and sends GOAWAY to all existing ones.

        Calls in flight are still answered. Returns when the new server accepts connections.

        Args:
            certificates: encrypt new connections; None: no TLS.

        Raises:
            Exception: the new server failed to start; the old one continues.
        """
        with self._replacing:
            self._supersede(certificates)
            self._tell_leaving()

    def retire(self) -> None:
        """Sends GOAWAY to all connections and keeps accepting new ones; raises as `renew`."""
        with self._replacing:
            self._supersede(self._certificates)
            self._tell_leaving()

    def ask(self, *, only_old: bool) -> None:
        """Makes HTTP/1.1 answers close their connections; with `only_old`, not on new connections.

        Raises:
            Exception: the server for new connections failed to start; nothing changed.
        """
        with self._replacing:
            asking = self._entrance
            if only_old:
                self._supersede(self._certificates)
            asking.is_closing = True

    def retire_old(self) -> None:
        """Sends GOAWAY to the connections that existed when `ask` was called."""
        with self._replacing:
            self._tell_leaving()

    def _supersede(self, certificates: "Certificates | None") -> None:
        before = self._server
        self._call(self._replace(certificates))
        if before is not None:
            self._leaving.append(before)

    def _tell_leaving(self) -> None:
        if self._socket is None:
            raise RuntimeError("bind comes first")
        leaving, self._leaving = self._leaving, []
        with self._lingering.copies(self._socket.getsockname()[1]):
            for each in leaving:
                each.shutdown()

    def stop(self, deadline: Deadline) -> int:
        """Stops accepting connections, waits until answers are sent, and closes.

        Returns:
            Number of unsent answers at the deadline, as far as known; all that h2corn holds for a reader counts as one.
        """
        if self._socket is None:
            return 0
        unsent_answers = 0
        if self._loop is not None and self._thread is not None and self._thread.is_alive:
            held = held_connections(self._socket.getsockname()[1])
            # Idle connections need a moment to close, even after the deadline.
            deadline = Deadline(max(deadline.at_s, Deadline.after(_ENDING_S).at_s))
            try:
                unsent_answers = self._call(self._end(held, deadline), deadline)
            except Exception as error:  # noqa: BLE001  such as a hung loop, whose answers are not sent
                self._log_failure(error)
                unsent_answers = 1
            unsent_answers = max(unsent_answers, close_when_sent(held, deadline))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.close(deadline.left_s())
        self._socket.close()
        return unsent_answers

    def _call(self, work: Coroutine[Any, Any, T], deadline: Deadline | None = None) -> T:
        """Runs a coroutine on the loop and returns its result."""
        if self._loop is None:
            raise RuntimeError("bind and start come first")
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(deadline.left_s() + _ENDING_S if deadline else None)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        # A callback that raises a BaseException ends the loop; run it again, with everything on it.
        loop.run_forever()
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=1)) if left else None
        finally:
            loop.close()

    async def _begin(self, make_app: MakeApp) -> None:
        self._app = make_app()
        self._server = await self._serve()

    async def _serve(self) -> h2corn.Server:
        """Starts a server on our socket."""
        if self._socket is None:
            raise RuntimeError("bind comes first")
        entrance = Entrance(self._app)
        with _lent(self._certificates) as files:
            server = h2corn.Server(entrance, self._make_config(f"fd://{self._socket.fileno()}", files))
            serving = asyncio.ensure_future(server.serve())
            started = asyncio.ensure_future(server.wait_started())
            await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
            await (serving if serving.done() else started)
        self._serving.add(serving)
        serving.add_done_callback(functools.partial(self._has_ended, server))
        self._entrance = entrance
        return server

    def _has_ended(self, server: h2corn.Server, serving: "asyncio.Task[None]") -> None:
        self._serving.discard(serving)
        if not serving.cancelled() and (error := serving.exception()) is not None:
            self._log_failure(error)
            # A server ends at the first connection it cannot accept, such as for lack of file descriptors.
            if server is self._server and self._loop is not None:
                self._reviving = self._loop.create_task(self._revive())

    async def _revive(self) -> None:
        """Replaces a server that ended by itself; retries until one starts."""
        while True:
            await asyncio.sleep(_REVIVE_S)
            try:
                self._server = await self._serve()
            except Exception as error:  # noqa: BLE001  any error may be temporary
                self._log_failure(error)
            else:
                return

    async def _replace(self, certificates: "Certificates | None") -> None:
        before, self._certificates = self._certificates, certificates
        try:
            self._server = await self._serve()
        except BaseException:
            self._certificates = before
            raise
        if self._reviving is not None:
            self._reviving.cancel()

    async def _end(self, held: list[socket.socket], deadline: Deadline) -> int:
        """Ends connections once their answers are sent; returns the number of unsent answers at the deadline."""
        if self._reviving is not None:
            self._reviving.cancel()
        if self._server is not None:
            self._server.shutdown()
        rest = Deadline.after(_REST_S)
        while self._serving and deadline.left_s():
            await asyncio.wait(set(self._serving), timeout=deadline.left_s(_LOOK_S))
            if self._app.reading and not self._app.sending and not rest.left_s() and not unsent(held):
                # The rest are incomplete requests, which were not accepted.
                return 0
        return max(self._app.sending, 1) if self._serving else 0


def _lent(certificates: "Certificates | None") -> "AbstractContextManager[CertificateFiles | None]":
    if certificates is None:
        return nullcontext()
    # Imported here because its library is needed only for TLS.
    from ..certificates import lent_as_files

    return lent_as_files(certificates)
