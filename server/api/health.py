"""grpc.health.v1: Check and Watch, of what the application reports as serving.

The service is our own because the library's watches lock the server up: it sends to watchers under its lock, which
grpcio's polling thread needs when another watcher leaves, and only that thread can finish the sending. Here each watch
has a thread that sends without holding a lock, so a watcher that leaves or does not read costs itself only.
"""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2

from .open_inference import SERVICE

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MAX_WATCHES = 512
"""Watches open at once; each takes a thread, about 60 KB. Fewer than the streams that one connection may have, or a
proxy's watches would hold up its calls."""

_SERVER = ""
_STATUS = health_pb2.HealthCheckResponse


class _Watch:
    """What wakes a watcher's thread. Every method may be called from any thread, and none waits."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._woken.set()
        self.has_ended = False

    def wake(self) -> None:
        self._woken.set()

    def end(self) -> None:
        self.has_ended = True
        self._woken.set()

    def wait(self) -> None:
        self._woken.wait()
        self._woken.clear()


class Health:
    """Says of the server, of the inference service and of every model whether it is serving.

    Every method may be called from any thread.
    """

    def __init__(self, max_watches: int = MAX_WATCHES) -> None:
        """Starts with the server known and not serving.

        Args:
            max_watches: most watches that are open at once; more are refused with RESOURCE_EXHAUSTED.
        """
        self._max_watches = max_watches
        # Watchers must hold no thread of the pool that carries inference. One more tells the others that there are
        # too many.
        self._pool = ThreadPoolExecutor(max_workers=max_watches + 1, thread_name_prefix="health")
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = dict.fromkeys((_SERVER, SERVICE), _STATUS.NOT_SERVING)
        self._watches: set[_Watch] = set()
        self._is_final = False
        self._has_ended = False

    def register(self, server: grpc.Server) -> None:
        """Adds the health service to a gRPC server."""

        def watch(request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[_STATUS]:
            return self._watch(request.service, context)

        # grpcio runs a handler on the pool that it names.
        watch.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        read, write = health_pb2.HealthCheckRequest.FromString, _STATUS.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods),))

    def report(self, models: Mapping[str, bool], *, server: bool) -> None:
        """Says of each model, and of the server, whether it serves."""
        self._set({**models, _SERVER: server, SERVICE: server})

    def report_model(self, model: str, *, serving: bool) -> None:
        """Says of one model whether it serves."""
        self._set({model: serving})

    def not_serving(self) -> None:
        """Says of everything, for good, that it serves no longer."""
        with self._lock:
            self._is_final = True
            self._statuses = dict.fromkeys(self._statuses, _STATUS.NOT_SERVING)
            self._wake_all()

    def end_watches(self) -> None:
        """Ends every watch, open or yet to come; a server with an open one would take all its grace to stop."""
        with self._lock:
            self._has_ended = True
            for watch in self._watches:
                watch.end()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False)

    def _set(self, serving: Mapping[str, bool]) -> None:
        with self._lock:
            if not self._is_final:
                self._statuses |= {
                    service: _STATUS.SERVING if serves else _STATUS.NOT_SERVING for service, serves in serving.items()
                }
                self._wake_all()

    def _wake_all(self) -> None:
        """Has every watch look at its status. The lock is held."""
        for watch in self._watches:
            watch.wake()

    def _check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> _STATUS:
        status = self._statuses.get(request.service)
        if status is None:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f'there is no service or model "{request.service}"; "" asks for the server'
            )
        return _STATUS(status=status)

    def _watch(self, service: str, context: grpc.ServicerContext) -> Iterator[_STATUS]:
        """Yields a service's status now and whenever it has changed, until the caller leaves or the watches end.

        A watcher that reads slowly gets the latest status and not each one before it.
        """
        watch = self._open(context)
        try:
            sent: int | None = None
            while True:
                watch.wait()
                has_ended = watch.has_ended
                status = self._statuses.get(service, _STATUS.SERVICE_UNKNOWN)
                if status != sent:
                    yield _STATUS(status=status)
                    sent = status
                if has_ended:
                    return
        finally:
            with self._lock:
                self._watches.discard(watch)

    def _open(self, context: grpc.ServicerContext) -> _Watch:
        watch = _Watch()
        with self._lock:
            is_full = len(self._watches) >= self._max_watches
            if not is_full:
                self._watches.add(watch)
                if self._has_ended:
                    watch.end()
        if is_full:
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._max_watches} health watches are open and no more are taken; close one, or call Check",
            )
        if not context.add_callback(watch.end):
            watch.end()
        return watch
