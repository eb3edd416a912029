"""The fast lane: pygrpc-native's front owns the port, answers the hot unary methods and forwards the rest to grpcio.

HTTP/2 runs outside the GIL, and calls reach Python in batches on one thread, which hands them to the dispatcher. What
the front does not limit is limited here: the message size, after the fact, since the front reads a message whole.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from ..api.dispatch import Dispatcher
from ..api.status import Status
from .grpcio import GrpcioTransport, cannot_listen

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent

# Calls that one trip across the GIL brings at most.
_EVENTS = 64


class _FastCall:
    """One call of the front, answered by its id."""

    __slots__ = ("_front", "_id", "_is_cancelled", "_on_cancel", "_open", "deadline_s")

    def __init__(
        self, front: NativeGrpcFront, call_id: int, deadline_s: float | None, open_calls: "dict[int, _FastCall]"
    ) -> None:
        self._front = front
        self._id = call_id
        self.deadline_s = deadline_s
        self._on_cancel: Callable[[], None] | None = None
        self._is_cancelled = False
        self._open = open_calls

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback
        # The caller may have left before anybody wanted to know.
        if self._is_cancelled:
            callback()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()

    def reply(self, message: bytes) -> None:
        self._open.pop(self._id, None)
        self._front.respond(self._id, message)

    def fail(self, status: Status) -> None:
        self._open.pop(self._id, None)
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
        log_failure: Callable[[BaseException], object],
    ) -> None:
        """Stores what it is handed; `bind` takes the port.

        Args:
            behind: carries every method that is not among `methods`.
            methods: full names of the unary methods that are answered here.
            max_message_bytes: largest request taken.
            max_streams: most calls in flight on one connection.
            log_failure: is given whatever a call raises against all rules.
        """
        self._behind = behind
        self._methods = list(methods)
        self._max_message_bytes = max_message_bytes
        self._max_streams = max_streams
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
            self._front = NativeGrpcFront(
                f"{shown}:{port}", methods, call_details=True, max_concurrent_streams=self._max_streams
            )
        except Exception as error:
            raise cannot_listen(shown, port) from error
        self._folder = Path(tempfile.mkdtemp(prefix="pixelserve-"))
        socket = self._folder / "grpc.sock"
        self._behind.bind_socket(socket)
        self._front.set_fallback(str(socket))
        return f"{shown}:{self._front.bound_port}"

    def add(self, dispatcher: Dispatcher, reflected_services: Iterable[str]) -> None:
        """Adds the dispatcher's methods; those that are not answered here are grpcio's."""
        self._dispatcher = dispatcher
        self._behind.add(dispatcher, reflected_services)

    def start(self) -> None:
        """Starts taking calls."""
        self._behind.start()
        if self._front is not None:
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
            for event in events:
                try:
                    self._take(front, dispatcher, event)
                except Exception as error:  # noqa: BLE001  this thread must outlive whatever one call brings
                    self._log_failure(error)

    def _take(self, front: NativeGrpcFront, dispatcher: Dispatcher, event: "DetailedEvent") -> None:
        kind, call_id, method, message, _, details = event
        if kind != EVENT_CALL:
            if (left := self._open.pop(call_id, None)) is not None:
                left.cancel()
            return
        remaining_s = details[2] if details else None
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        call = self._open[call_id] = _FastCall(front, call_id, deadline_s, self._open)
        self._hand_over(dispatcher, self._methods[method], message or b"", call)

    def _hand_over(self, dispatcher: Dispatcher, method: str, message: bytes, call: _FastCall) -> None:
        if len(message) > self._max_message_bytes:
            call.fail(_too_large(len(message), self._max_message_bytes))
        else:
            dispatcher.handle(method, message, call)


def _too_large(size_bytes: int, max_bytes: int) -> Status:
    return Status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the message has {size_bytes:,} bytes; at most {max_bytes:,} are taken (--max-message-mib)",
    )
