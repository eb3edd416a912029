"""How bytes arrive. A transport hands the dispatcher (method, bytes, call) and knows nothing of what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..api.admission import Admission
from ..api.dispatch import Dispatcher
from ..api.streaming import StreamedMethod
from ..deadline import Deadline

if TYPE_CHECKING:
    from .certificates import Certificates


@dataclass(frozen=True)
class Services:
    """What a gRPC port serves."""

    dispatcher: Dispatcher
    """Handles the unary methods."""
    admission: Admission
    """Counts the bytes that a transport holds: of requests that are not whole yet, and of answers that are not sent."""
    streamed: Mapping[str, StreamedMethod] = field(default_factory=dict)
    """Methods with streams, by full name."""


class Transport(Protocol):
    """Owns the gRPC port. `bind`, `start`, `retire` and `stop` are called once, in this order."""

    name: str
    """What --transport calls it."""

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """

    def start(self, services: Services) -> None:
        """Starts taking calls."""

    def renew(self, certificates: "Certificates") -> None:
        """Encrypts what connects from now on with these. Only for one that has certificates, while it is started.

        Raises:
            Exception: it cannot; everything stays as it is.
        """

    def replace_connections(self) -> None:
        """Tells every connection to go once what is in flight on it is answered, and takes new ones as before.

        Does nothing for a transport that ends old connections by itself.

        Raises:
            Exception: it cannot; everything stays as it is.
        """

    def retire(self, deadline: Deadline) -> None:
        """Tells every connection to go once what is in flight on it is answered, or the deadline has passed."""

    def stop(self, deadline: Deadline) -> int:
        """Refuses new calls, gives answers that were handed over until the deadline to be sent, and ends.

        Returns:
            How many answers were not sent, as far as the transport can see.
        """


class HttpPort(Protocol):
    """Owns the HTTP port. `bind`, `start`, `retire` and `stop` are called once, in this order."""

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """

    def start(self, app: Any) -> None:
        """Starts answering with an ASGI application."""

    def renew(self, certificates: "Certificates") -> None:
        """Encrypts what connects from now on with these. Only for one that has certificates, while it is started.

        Raises:
            Exception: it cannot; everything stays as it is.
        """

    def ask_to_close(self, *, only_old: bool) -> None:
        """Has HTTP/1.1 answers close their connections; where `only_old`, not those of connections that begin now.

        Raises:
            Exception: it cannot; everything stays as it is.
        """

    def retire_old(self) -> None:
        """Tells the connections that were old when they were asked to close to go, and closes those that are idle."""

    def retire(self) -> None:
        """Tells every connection to go once what is in flight on it is answered."""

    def stop(self, deadline: Deadline) -> int:
        """Takes no more connections, gives answers that are there until the deadline to be sent, and ends.

        Returns:
            How many answers were not sent, as far as the port can see.
        """
