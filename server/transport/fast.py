"""The fast lane: pygrpc-native's front owns the port, answers the hot unary methods and forwards the rest to grpcio.

HTTP/2 runs outside the GIL, and calls reach Python in batches on one thread, which hands them to the dispatcher. What
the front does not limit is limited here: the message size, after the fact, since the front reads a message whole.
"""

import os
import platform
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from ..api.call import Call
from ..api.dispatch import Dispatcher
from ..api.status import Status
from ..api.stream import InferStreams
from ..failures import FailureLog
from .grpcio import GrpcioTransport, cannot_listen

if TYPE_CHECKING:
    from pygrpc_native._native import CallDetails, DetailedEvent

# Calls that one trip across the GIL brings at most.
_EVENTS = 64


class _FastCall(Call):
    """One call of the front, answered by its id."""

    _on_cancel: Callable[[], None] | None = None
    _is_cancelled = False

    def __init__(
        self,
        front: NativeGrpcFront,
        call_id: int,
        deadline_s: float | None,
        details: "CallDetails | None",
        open_calls: "dict[int, _FastCall]",
        may_compute: bool,
    ) -> None:
        # Written out rather than inherited: this is done for every call.
        self.deadline_s = deadline_s
        self.may_compute = may_compute
        self._front = front
        self._id = call_id
        self._details = details
        self._open = open_calls

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return self._details[0] if self._details else ()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback
        # The caller may have left before anybody wanted to know.
        if self._is_cancelled:
            callback()

    def cancel(self) -> None:
        self._is_cancelled = True
        # Taken first, since an answer may remove it at any moment.
        callback = self._on_cancel
        if callback is not None:
            callback()

    def reply(self, message: bytes) -> None:
        # The inherited steps in one: this is done for every call.
        if self._open.pop(self._id, None) is None:
            return
        # The request knows its call: without this the two would wait for the garbage collector.
        self._on_cancel = None
        try:
            self.send(message)
        finally:
            if self.record is not None:
                self.record.answered(self)
            admission = self.admission
            if admission is not None:
                admission.answered(self, True)

    def claim(self) -> bool:
        # One operation of the interpreter, so it needs no lock.
        is_first = self._open.pop(self._id, None) is not None
        self._on_cancel = None
        return is_first

    def send(self, message: bytes) -> None:
        if self.trailing:
            self._front.respond(self._id, message, None, list(self.trailing))
        else:
            self._front.respond(self._id, message)
        if self.may_compute:
            # It came alone, so nothing will follow to be sent with it: the front's thread gets this core right away.
            os.sched_yield()

    def send_status(self, status: Status) -> None:
        # The front keeps keys that begin with grpc- to itself and raises on them.
        trailing = [(key, value) for key, value in status.trailing if not key.startswith("grpc-")]
        self._front.fail(self._id, status.code.value[0], status.message, trailing)


class FastTransport:
    """Owns the gRPC port in front of a grpcio transport, which listens on a Unix socket behind it."""

    name = "fast"

    def __init__(
        self,
        behind: GrpcioTransport,
        *,
        methods: Iterable[str],
        max_message_bytes: int,
        max_streams: int,
        io_threads: int,
        quiet_wakeups: bool,
        log_failure: FailureLog,
    ) -> None:
        """Stores what it is handed; `bind` takes the port.

        Args:
            behind: carries every method that is not among `methods`.
            methods: full names of the unary methods that are answered here.
            max_message_bytes: largest request taken.
            max_streams: most calls in flight on one connection.
            io_threads: threads that read and write the network.
            quiet_wakeups: whether these threads wait for the others to pause when they have something to do.
            log_failure: is given whatever a call raises against all rules.
        """
        self._behind = behind
        self._methods = list(methods)
        self._max_message_bytes = max_message_bytes
        self._max_streams = max_streams
        self._io_threads = io_threads
        self._quiet_wakeups = quiet_wakeups
        self._log_failure = log_failure
        self._front: NativeGrpcFront | None = None
        self._dispatcher: Dispatcher | None = None
        self._open: dict[int, _FastCall] = {}
        self._thread = threading.Thread(target=self._take_calls, name="fast lane", daemon=True)
        self._folder: Path | None = None

    @property
    def server(self) -> grpc.Server:
        """grpcio's server, for services that bring their own handlers."""
        return self._behind.server

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        shown = f"[{host}]" if ":" in host else host
        methods = [(method, False) for method in self._methods]
        try:
            with _quiet_wakeups(self._quiet_wakeups):
                self._front = NativeGrpcFront(
                    f"{shown}:{port}",
                    methods,
                    call_details=True,
                    max_concurrent_streams=self._max_streams,
                    io_threads=self._io_threads,
                )
        except Exception as error:
            raise cannot_listen(shown, port) from error
        socket = self._socket_address()
        self._behind.bind_socket(socket)
        self._front.set_fallback(socket)
        return f"{shown}:{self._front.bound_port}"

    def _socket_address(self) -> str:
        if platform.system() == "Linux":
            # Without a file, since the root file system may be read-only.
            return f"\0pixelserve-{uuid.uuid4()}"
        self._folder = Path(tempfile.mkdtemp(prefix="pixelserve-"))
        return str(self._folder / "grpc.sock")

    def add(self, dispatcher: Dispatcher, streams: InferStreams, reflected_services: Iterable[str]) -> None:
        """Adds the dispatcher's methods; those that are not answered here are grpcio's."""
        self._dispatcher = dispatcher
        self._behind.add(dispatcher, streams, reflected_services)

    def start(self) -> None:
        """Starts taking calls."""
        self._behind.start()
        if self._front is not None:
            with _quiet_wakeups(self._quiet_wakeups):
                self._front.start()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Ends both servers. The front fails whatever is in flight: everything must have been answered before."""
        self._behind.stop(grace_s)
        if self._front is not None:
            self._front.close()
        if self._thread.ident is not None:
            self._thread.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take_calls(self) -> None:
        front, dispatcher = self._front, self._dispatcher
        if front is None or dispatcher is None:
            raise RuntimeError("bind and add come before start")
        while (events := front.recv_batch_details(_EVENTS)) is not None:
            # A call that comes alone may be computed on this thread; others would wait behind it.
            is_alone = len(events) == 1
            for event in events:
                try:
                    self._take(front, dispatcher, event, is_alone)
                except Exception as error:  # noqa: BLE001  this thread must outlive whatever one call brings
                    self._log_failure(error)

    def _take(self, front: NativeGrpcFront, dispatcher: Dispatcher, event: "DetailedEvent", is_alone: bool) -> None:
        kind, call_id, method, message, _, details = event
        if kind != EVENT_CALL:
            # It stays on the list: whoever works on it will answer it, if only to be done with it.
            if (left := self._open.get(call_id)) is not None:
                left.cancel()
            return
        remaining_s = details[2] if details else None
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        call = self._open[call_id] = _FastCall(front, call_id, deadline_s, details, self._open, is_alone)
        message = message or b""
        if len(message) > self._max_message_bytes:
            dispatcher.refuse(self._methods[method], call, _too_large(len(message), self._max_message_bytes))
        else:
            dispatcher.handle(self._methods[method], message, call)


@contextmanager
def _quiet_wakeups(enabled: bool) -> Iterator[None]:
    """Has the threads that are started inside not interrupt others of this process when they wake.

    The front's threads are woken by every answer. By default Linux lets such a thread interrupt the one that has just
    woken it, so that each answer of a batch costs two switches and a write of its own; under SCHED_BATCH it comes to
    run when the others wait, and finds the answers of the whole batch. Needs no privilege.
    """
    # Whoever runs the server under another policy, such as a real-time one, keeps it.
    if not enabled or not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        # A sandbox may forbid it; then it is only slower.
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _too_large(size_bytes: int, max_bytes: int) -> Status:
    return Status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the message has {size_bytes:,} bytes; at most {max_bytes:,} are taken (--max-message-mib)",
        reason="too_large",
    )
