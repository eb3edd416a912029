"""How bytes arrive. A transport hands the dispatcher (method, bytes, call) and knows nothing of what they mean."""

from collections.abc import Iterable
from typing import Any, Protocol

import grpc

from ..api.dispatch import Dispatcher
from ..api.stream import InferStreams


class Transport(Protocol):
    """Owns the gRPC port. `bind`, `add`, `start` and `stop` are called once, in this order."""

    name: str
    """What --transport calls it."""

    @property
    def server(self) -> grpc.Server:
        """grpcio's server, for services that bring their own handlers."""

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """

    def add(self, dispatcher: Dispatcher, streams: InferStreams, reflected_services: Iterable[str]) -> None:
        """Adds the dispatcher's methods, the streams' one, and server reflection that lists `reflected_services`."""

    def start(self) -> None:
        """Starts taking calls."""

    def stop(self, grace_s: float) -> None:
        """Refuses new calls, gives answers that were handed over `grace_s` seconds to be sent, and ends."""


class HttpPort(Protocol):
    """Owns the HTTP port. `bind`, `start` and `stop` are called once, in this order."""

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """

    def start(self, app: Any, grace_s: float) -> None:
        """Starts answering with an ASGI application; `stop` will wait `grace_s` seconds until answers are sent."""

    def stop(self) -> None:
        """Takes no more connections, waits until the answers that are there are sent, and ends."""
