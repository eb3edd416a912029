"""The h2corn transport: gRPC and HTTP on every address. HTTP/2 and TLS run in Rust, without the GIL."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...deadline import Deadline
from ...failures import FailureLog
from ...supervised import Supervisor
from .. import Services
from .app import GrpcApp
from .departures import Departures
from .library import h2corn
from .listener import Listener

if TYPE_CHECKING:
    from ..certificates import CertificateFiles, Certificates

# Bytes that a call and a connection may have sent but we have not read.
_STREAM_WINDOW_BYTES = 1 << 20
_CONNECTION_WINDOW_BYTES = 4 << 20
# This many connections can have their maximum of calls in flight; further calls get 503.
_CONNECTIONS_AT_ONCE = 16


@dataclass(frozen=True)
class Limits:
    """Limits per connection and in total; the same on both ports."""

    max_message_bytes: int
    """Maximum bytes of a message or body."""
    max_streams: int
    """Maximum calls in flight per connection."""
    max_connections: int
    """Maximum connections per port."""
    idle_connection_s: float
    """Maximum idle time of a connection, in seconds."""
    handshake_s: float
    """Maximum time for a connection's handshakes, in seconds."""
    idle_body_s: float
    """Maximum pause of a request's body, in seconds."""
    unread_answer_s: float
    """Maximum time an answer waits for its reader, in seconds."""
    max_header_bytes: int
    """Maximum bytes of a request's headers."""
    grace_s: float
    """Grace period for calls in flight when the server stops, in seconds."""
    retirement_s: float = 3600.0
    """Maximum duration of streams after GOAWAY, in seconds."""


def _config(
    bind: str, files: "CertificateFiles | None", limits: Limits, *, grpc: bool, streamed: tuple[str, ...] = ()
) -> h2corn.Config:
    # We check sizes ourselves: a policy would answer 413 or reset before we can say what was expected.
    # Streams last as long as their clients like; everything else is limited.
    policies = [
        h2corn.RequestPolicy(
            path=path,
            max_request_body_size=0,
            timeout_request_body_idle=0,
            h2_timeout_response_stall=limits.unread_answer_s,
        )
        for path in streamed
    ]
    policies.append(
        h2corn.RequestPolicy(
            path="/*",
            max_request_body_size=0,
            timeout_request_body_idle=limits.idle_body_s,
            h2_timeout_response_stall=limits.unread_answer_s,
        )
    )
    return h2corn.Config(
        bind=(bind,),
        certfile=files.cert if files else None,
        keyfile=files.key if files else None,
        ca_certs=files.client_ca if files else None,
        cert_reqs="required" if files and files.client_ca else "none",
        grpc=grpc,
        lifespan="off",
        loop="asyncio",
        runtime_threads=1,
        access_log=False,
        date_header=False,
        request_policies=tuple(policies),
        max_request_body_size=0,
        h2_initial_stream_window_size=_STREAM_WINDOW_BYTES,
        h2_initial_connection_window_size=_CONNECTION_WINDOW_BYTES,
        max_concurrent_streams=limits.max_streams,
        limit_connections=limits.max_connections,
        limit_concurrency=_CONNECTIONS_AT_ONCE * limits.max_streams,
        # Limited by bytes: gRPC metadata may have many.
        limit_request_fields=0,
        limit_request_head_size=limits.max_header_bytes,
        limit_request_line=min(limits.max_header_bytes, 16 * 1024),
        limit_request_field_size=limits.max_header_bytes,
        h2_max_header_list_size=limits.max_header_bytes,
        # Above this the connection ends; between the two limits only the request is refused.
        h2_max_header_block_size=4 * limits.max_header_bytes,
        timeout_handshake=limits.handshake_s,
        timeout_request_header=limits.idle_body_s,
        timeout_request_body_idle=limits.idle_body_s,
        h2_timeout_response_stall=limits.unread_answer_s,
        h2_timeout_write=limits.unread_answer_s,
        timeout_keep_alive=limits.idle_connection_s,
        timeout_graceful_shutdown=max(limits.grace_s, limits.retirement_s),
    )


class H2cornTransport:
    """Owns the gRPC port."""

    name = "h2corn"

    def __init__(
        self,
        limits: Limits,
        log_failure: FailureLog,
        certificates: "Certificates | None" = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Does not listen yet; `certificates` None: no TLS."""
        self._limits = limits
        self._log_failure = log_failure
        self._streamed: tuple[str, ...] = ()
        self._listener = Listener(
            "gRPC", "--grpc-port (0: a free one) or --host", self._config, certificates, log_failure, supervisor
        )

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """
        return self._listener.bind(host, port)

    def start(self, services: Services) -> None:
        """Starts accepting calls."""
        self._streamed = tuple(services.streamed)

        def make_app() -> GrpcApp:
            return GrpcApp(
                services,
                max_message_bytes=self._limits.max_message_bytes,
                unread_answer_s=self._limits.unread_answer_s,
                log_failure=self._log_failure,
            )

        self._listener.start(make_app)

    def renew(self, certificates: "Certificates") -> None:
        """Uses these certificates for new connections, and sends GOAWAY to all others.

        Raises:
            Exception: it failed; nothing changed.
        """
        self._listener.renew(certificates)

    def replace_connections(self) -> None:
        """Sends GOAWAY to every connection, whose calls in flight are still answered; new connections are accepted.

        Raises:
            Exception: it failed; nothing changed.
        """
        self._listener.retire()

    def retire(self, deadline: Deadline) -> None:
        """Sends GOAWAY to every connection, whose calls in flight are still answered; new connections are accepted."""
        self._listener.retire()

    def stop(self, deadline: Deadline) -> int:
        """Refuses new calls, sends pending answers until the deadline, and stops.

        Returns:
            Number of unsent answers, as far as the transport knows.
        """
        return self._listener.stop(deadline)

    def _config(self, bind: str, files: "CertificateFiles | None") -> h2corn.Config:
        return _config(bind, files, self._limits, grpc=True, streamed=self._streamed)


class H2cornHttpPort:
    """Owns the HTTP port."""

    def __init__(
        self,
        limits: Limits,
        log_failure: FailureLog,
        certificates: "Certificates | None" = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Does not listen yet; `certificates` None: no TLS."""
        self._limits = limits
        remedies = "--http-port (0: a free one) or --host, or do without it (--no-http)"
        self._listener = Listener("HTTP", remedies, self._config, certificates, log_failure, supervisor)

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """
        return self._listener.bind(host, port)

    def start(self, app: Any) -> None:
        """Starts answering with an ASGI application."""
        self._listener.start(lambda: Departures(app))

    def renew(self, certificates: "Certificates") -> None:
        """Uses these certificates for new connections, and sends GOAWAY to all others.

        Raises:
            Exception: it failed; nothing changed.
        """
        self._listener.renew(certificates)

    def ask_to_close(self, *, only_old: bool) -> None:
        """Makes HTTP/1.1 answers close their connections; with `only_old`, not on new connections.

        Raises:
            Exception: it failed; nothing changed.
        """
        self._listener.ask(only_old=only_old)

    def retire_old(self) -> None:
        """Sends GOAWAY to the connections that `ask_to_close` found old, and closes idle ones."""
        self._listener.retire_old()

    def retire(self) -> None:
        """Sends GOAWAY to every connection, whose calls in flight are still answered; new connections are accepted."""
        self._listener.retire()

    def stop(self, deadline: Deadline) -> int:
        """Stops accepting connections, sends pending answers until the deadline, and stops.

        Returns:
            Number of unsent answers, as far as the port knows.
        """
        return self._listener.stop(deadline)

    def _config(self, bind: str, files: "CertificateFiles | None") -> h2corn.Config:
        return _config(bind, files, self._limits, grpc=False)
