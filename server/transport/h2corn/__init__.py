"""h2corn: carries gRPC and HTTP on every address. HTTP/2 and TLS run in Rust, outside the interpreter's lock."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h2corn

from ...deadline import Deadline
from ...failures import FailureLog
from ...supervised import Supervisor
from .. import Services
from .app import GrpcApp
from .departures import Departures
from .listener import Listener

if TYPE_CHECKING:
    from ..certificates import CertificateFiles, Certificates

# What a call and a connection may have sent that we have not read yet.
_STREAM_WINDOW_BYTES = 1 << 20
_CONNECTION_WINDOW_BYTES = 4 << 20
# As many connections may have all the calls in flight that they may have; what comes then is told 503.
_CONNECTIONS_AT_ONCE = 16


@dataclass(frozen=True)
class Limits:
    """What one connection, and all together, may take; the same on both ports."""

    max_message_bytes: int
    """Largest message or body taken."""
    max_streams: int
    """Most calls in flight on one connection."""
    max_connections: int
    """Most connections of a port."""
    idle_connection_s: float
    """Seconds that a connection may stay without a call."""
    handshake_s: float
    """Seconds from a connection's arrival to the end of its handshakes."""
    idle_body_s: float
    """Seconds that a request's body may pause."""
    unread_answer_s: float
    """Seconds that an answer may wait for its reader."""
    max_header_bytes: int
    """Most bytes of a request's headers."""
    grace_s: float
    """Seconds that calls in flight get when the server stops."""
    retirement_s: float = 3600.0
    """Seconds that calls, of which only streams last that long, may go on for on connections that were told to go."""


def _config(
    bind: str, files: "CertificateFiles | None", limits: Limits, *, grpc: bool, streamed: tuple[str, ...] = ()
) -> h2corn.Config:
    # Sizes are ours to judge: a policy would answer with HTTP's 413, or a reset, before we say what was expected.
    # Streams last as long as their clients like; everything else has an end.
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
        # Bytes bound them: gRPC's metadata may have many.
        limit_request_fields=0,
        limit_request_head_size=limits.max_header_bytes,
        limit_request_line=min(limits.max_header_bytes, 16 * 1024),
        limit_request_field_size=limits.max_header_bytes,
        h2_max_header_list_size=limits.max_header_bytes,
        # Above this the connection ends; between the two only the request is refused.
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
        """Listens nowhere yet; `certificates` encrypt its connections (None: they are not encrypted)."""
        self._limits = limits
        self._log_failure = log_failure
        self._streamed: tuple[str, ...] = ()
        self._listener = Listener(
            "gRPC", "--grpc-port (0: a free one) or --host", self._config, certificates, log_failure, supervisor
        )

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        return self._listener.bind(host, port)

    def start(self, services: Services) -> None:
        """Starts taking calls."""
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
        """Encrypts what connects from now on with these, and tells all connections there are to go.

        Raises:
            Exception: it cannot; everything stays as it is.
        """
        self._listener.renew(certificates)

    def replace_connections(self) -> None:
        """Tells every connection to go once what is in flight on it is answered; new ones are taken as before.

        Raises:
            Exception: it cannot; everything stays as it is.
        """
        self._listener.retire()

    def retire(self, deadline: Deadline) -> None:
        """Tells every connection to go once what is in flight on it is answered; new ones are taken as before."""
        self._listener.retire()

    def stop(self, deadline: Deadline) -> int:
        """Refuses new calls, gives answers that were handed over until the deadline to be sent, and ends.

        Returns:
            How many answers were not sent, as far as the transport can see.
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
        """Listens nowhere yet; `certificates` encrypt its connections (None: they are not encrypted)."""
        self._limits = limits
        remedies = "--http-port (0: a free one) or --host, or do without it (--no-http)"
        self._listener = Listener("HTTP", remedies, self._config, certificates, log_failure, supervisor)

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        return self._listener.bind(host, port)

    def start(self, app: Any) -> None:
        """Starts answering with an ASGI application."""
        self._listener.start(lambda: Departures(app))

    def renew(self, certificates: "Certificates") -> None:
        """Encrypts what connects from now on with these, and tells all connections there are to go.

        Raises:
            Exception: it cannot; everything stays as it is.
        """
        self._listener.renew(certificates)

    def ask_to_close(self, *, only_old: bool) -> None:
        """Has HTTP/1.1 answers close their connections; where `only_old`, not those of connections that begin now.

        Raises:
            Exception: it cannot; everything stays as it is.
        """
        self._listener.ask(only_old=only_old)

    def retire_old(self) -> None:
        """Tells the connections that were old when they were asked to close to go, and closes those that are idle."""
        self._listener.retire_old()

    def retire(self) -> None:
        """Tells every connection to go once what is in flight on it is answered; new ones are taken as before."""
        self._listener.retire()

    def stop(self, deadline: Deadline) -> int:
        """Takes no more connections, gives answers that are there until the deadline to be sent, and ends.

        Returns:
            How many answers were not sent, as far as the port can see.
        """
        return self._listener.stop(deadline)

    def _config(self, bind: str, files: "CertificateFiles | None") -> h2corn.Config:
        return _config(bind, files, self._limits, grpc=False)
