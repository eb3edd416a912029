"""grpc.health.v1, from its library, told by the application what is serving."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .open_inference import SERVICE

HEALTH_SERVICE = health.SERVICE_NAME
_SERVER = ""


class Health:
    """Says of the server, of the inference service and of every model whether it is serving."""

    def __init__(self) -> None:
        """Starts out with the server known and not serving."""
        # Watchers must hold no thread of the pool that carries inference.
        pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._servicer = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=pool)
        self._pool = pool
        for service in (_SERVER, SERVICE):
            self._set(service, serving=False)

    def register(self, server: grpc.Server) -> None:
        """Adds the health service to a gRPC server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def serving(self, models: Iterable[str], *, server: bool) -> None:
        """Says that these models serve and, where `server` is true, that the server does."""
        for model in models:
            self._set(model, serving=True)
        for service in (_SERVER, SERVICE):
            self._set(service, serving=server)

    def not_serving(self) -> None:
        """Says of everything, for good, that it serves no longer."""
        self._servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False)

    def _set(self, service: str, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self._servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
