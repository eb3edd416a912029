"""grpc.health.v1, from its library, told by the application what is serving."""

import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .open_inference import SERVICE

HEALTH_SERVICE = health.SERVICE_NAME
_SERVER = ""


_Send = Callable[[health_pb2.HealthCheckResponse | None], None]


class _Watch:
    """Sends a watcher its messages, the end (None) once and nothing behind it."""

    def __init__(self, send: _Send) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._has_ended = False

    def __call__(self, response: health_pb2.HealthCheckResponse | None) -> None:
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = response is None
            self._send(response)


class _Servicer(health.HealthServicer):
    """The library's servicer with watches that can be ended."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(experimental_non_blocking=True, experimental_thread_pool=pool)
        self._watches_lock = threading.Lock()
        # The library holds a watch as long as its caller is there.
        self._watches: weakref.WeakSet[_Watch] = weakref.WeakSet()
        self._has_ended = False

    # The library's type stubs know nothing of the callback.
    def Watch(  # type: ignore[override]  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: _Send
    ) -> None:
        watch = _Watch(send_response_callback)
        with self._watches_lock:
            self._watches.add(watch)
        super().Watch(request, context, watch)
        if self._has_ended:
            watch(None)

    def end_watches(self) -> None:
        self._has_ended = True
        with self._watches_lock:
            watches = list(self._watches)
        for watch in watches:
            watch(None)


class Health:
    """Says of the server, of the inference service and of every model whether it is serving."""

    def __init__(self) -> None:
        """Starts out with the server known and not serving."""
        # Watchers must hold no thread of the pool that carries inference.
        pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._servicer = _Servicer(pool)
        self._pool = pool
        for service in (_SERVER, SERVICE):
            self._set(service, serving=False)

    def register(self, server: grpc.Server) -> None:
        """Adds the health service to a gRPC server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def report(self, models: Mapping[str, bool], *, server: bool) -> None:
        """Says of each model, and of the server, whether it serves."""
        for service, serving in {**models, _SERVER: server, SERVICE: server}.items():
            self._set(service, serving=serving)

    def report_model(self, model: str, *, serving: bool) -> None:
        """Says of one model whether it serves."""
        self._set(model, serving=serving)

    def not_serving(self) -> None:
        """Says of everything, for good, that it serves no longer."""
        self._servicer.enter_graceful_shutdown()

    def end_watches(self) -> None:
        """Ends every watch, open or yet to come; a server with an open one would take all its grace to stop."""
        self._servicer.end_watches()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False)

    def _set(self, service: str, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self._servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
