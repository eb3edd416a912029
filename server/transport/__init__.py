"""Transports. They pass (method, bytes, call) to the dispatcher and know nothing about the content."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..api.admission import Admission
from ..api.dispatch import Dispatcher
from ..api.streaming import StreamedMethod
from ..deadline import Deadline

if TYPE_CHECKING:
    from .certificates import Certificates


SLOW_BYTES_PER_S = 128 * 1024
"""The minimum rate of a reader, where a transport does not report its progress."""


@dataclass(frozen=True)
class Services:
    """The services of a gRPC port."""

    dispatcher: Dispatcher
    """Handles the unary methods."""
    admission: Admission
    """Counts the bytes that a transport holds: of incomplete requests and of unsent answers."""
    streamed: Mapping[str, StreamedMethod] = field(default_factory=dict)
    """Methods with streams, by full name."""


class Transport(Protocol):
    """Owns the gRPC port. `bind`, `start`, `retire` and `stop` are called once, in this order."""

    name: str
    """Its value of --transport."""

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """

    def start(self, services: Services) -> None:
        """Starts accepting calls."""

    def renew(self, certificates: "Certificates") -> None:
        """Uses these certificates for new connections. Requires certificates from the start and a started port.

        Raises:
            Exception: it failed; nothing changed.
        """

    def replace_connections(self) -> None:
        """Sends GOAWAY to every connection, whose calls in flight are still answered; new connections are accepted.

        Does nothing if the transport itself ends old connections.

        Raises:
            Exception: it failed; nothing changed.
        """

    def retire(self, deadline: Deadline) -> None:
        """Sends GOAWAY to every connection; calls in flight are answered until the deadline."""

    def stop(self, deadline: Deadline) -> int:
        """Refuses new calls, sends pending answers until the deadline, and stops.

        Returns:
            Number of unsent answers, as far as the transport knows.
        """


class HttpPort(Protocol):
    """Owns the HTTP port. `bind`, `start`, `retire` and `stop` are called once, in this order."""

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """

    def start(self, app: Any) -> None:
        """Starts answering with an ASGI application."""

    def renew(self, certificates: "Certificates") -> None:
        """Uses these certificates for new connections. Requires certificates from the start and a started port.

        Raises:
            Exception: it failed; nothing changed.
        """

    def ask_to_close(self, *, only_old: bool) -> None:
        """Makes HTTP/1.1 answers close their connections; with `only_old`, not on new connections.

        Raises:
            Exception: it failed; nothing changed.
        """

    def retire_old(self) -> None:
        """Sends GOAWAY to the connections that `ask_to_close` found old, and closes idle ones."""

    def retire(self) -> None:
        """Sends GOAWAY to every connection, whose calls in flight are still answered."""

    def stop(self, deadline: Deadline) -> int:
        """Stops accepting connections, sends pending answers until the deadline, and stops.

        Returns:
            Number of unsent answers, as far as the port knows.
        """
