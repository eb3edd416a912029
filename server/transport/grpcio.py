"""grpcio's server: its port, from binding to the last answer sent."""

import socket
import time
from typing import TYPE_CHECKING

import grpc

from ..deadline import Deadline
from ..errors import StartupError
from ..supervised import PeriodicThread, Supervisor
from . import Services
from .grpcio_calls import Handler, Sending
from .grpcio_receiving import LOOK_S, Receiving, received_bytes
from .grpcio_threads import CallThreads
from .linger import copies, unsent

if TYPE_CHECKING:
    from .certificates import Certificates
    from .grpcio_tls import GrpcioTls

# This many connections can have their maximum of calls in flight.
_CONNECTIONS_AT_ONCE = 4
# Time for streams on a connection that reached its age limit, as with h2corn.
_STREAMS_S = 3600.0
# Time for clients to send the rest of a request when the server stops.
_REST_S = 1.0
_LOOK_S = 0.02
# Looks for unread answers within their time-out.
_LOOKS = 4
# Time for normal readers, including delayed acknowledgements.
_BRISK_S = 0.2


class GrpcioTransport:
    """Owns the gRPC port.

    Args:
        max_calls: maximum concurrent calls, each on a thread of its own; more are refused with RESOURCE_EXHAUSTED.
        max_streamed: maximum concurrent streams in addition.
        max_message_bytes: maximum size of a message in either direction.
        max_streams: maximum calls in flight per connection.
        supervisor: supervises the threads that look at requests that take long, and at answers that are not read.
        max_header_bytes: maximum bytes of a call's headers.
        handshake_s: maximum seconds for a connection's handshakes.
        unread_s: seconds after which an unread answer's call is cancelled, in addition to the time of a slow reader.
        max_age_s: seconds (±10 %) after which a connection gets GOAWAY; 0: never.
        certificates: encrypt its connections; None: no TLS.
    """

    name = "grpcio"

    def __init__(
        self,
        *,
        max_calls: int,
        max_streamed: int,
        max_message_bytes: int,
        max_streams: int,
        supervisor: Supervisor,
        max_header_bytes: int = 16 * 1024,
        handshake_s: float = 5.0,
        unread_s: float = 10.0,
        max_age_s: float = 0.0,
        certificates: "Certificates | None" = None,
    ) -> None:
        self._tls = _tls(certificates) if certificates else None
        self._port = 0
        self._sending = Sending(unread_s)
        self._max_message_bytes = max_message_bytes
        self._supervisor = supervisor
        self._looking = [PeriodicThread(supervisor, "unread", self._sending.cancel_unread, unread_s / _LOOKS)]
        self._server = grpc.server(
            CallThreads(),  # type: ignore[arg-type]  # its stubs want the standard library's pool
            maximum_concurrent_rpcs=max_calls + max_streamed,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_concurrent_streams", max_streams),
                ("grpc.max_metadata_size", max_header_bytes),
                ("grpc.absolute_max_metadata_size", max_header_bytes),
                ("grpc.server_handshake_timeout_ms", int(handshake_s * 1000)),
                # Do not disconnect clients that keep a connection alive by pings.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 1000),
                # Of 2,000 calls at once on one channel, it refused 600 (REFUSED_STREAM, which clients do not always
                # retry): it counts calls that were answered and are not freed yet, which Python's are late.
                ("grpc.http.overload_protection", 0),
                # Calls that Python has not looked at yet: above the first number some are CANCELLED, above the second
                # all. By default the first is 1,000, fewer than one connection may have.
                ("grpc.server.max_pending_requests", _CONNECTIONS_AT_ONCE * max_streams),
                ("grpc.server.max_pending_requests_hard_limit", 2 * _CONNECTIONS_AT_ONCE * max_streams),
                # Two servers on one port would share its calls at random; let the second one fail instead.
                ("grpc.so_reuseport", 0),
                *_age_options(max_age_s),
            ],
        )

    def bind(self, host: str, port: int) -> str:
        """Binds the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not permitted.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(f"{shown}:{port}")
            else:
                bound = self._server.add_secure_port(f"{shown}:{port}", self._tls.credentials())
        except RuntimeError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for gRPC: it is in use or not permitted; "
                f"choose another with --grpc-port (0: a free one) or --host"
            ) from error
        self._port = bound
        return f"{shown}:{bound}"

    def start(self, services: Services) -> None:
        """Starts accepting calls."""
        receiving = Receiving(services.admission, self._max_message_bytes, lambda: received_bytes(self._port))
        self._server.add_generic_rpc_handlers((Handler(services, self._tls, receiving, self._sending),))

        def look() -> None:
            receiving.look(time.monotonic())

        self._looking.append(PeriodicThread(self._supervisor, "receiving", look, LOOK_S))
        self._server.start()
        for each in self._looking:
            each.start()

    def renew(self, certificates: "Certificates") -> None:
        """Uses these certificates for new connections; open connections keep theirs.

        Raises:
            Exception: it failed; nothing changed.
        """
        if self._tls is not None:
            self._tls.renew(certificates)

    def replace_connections(self) -> None:
        """Does nothing: grpcio ends each connection at its age."""

    def retire(self, deadline: Deadline) -> None:
        """Sends GOAWAY to every connection once its calls are answered, or the deadline has passed.

        From then on grpcio accepts no new connections, and cancels calls that cross GOAWAY. It also shuts a connection
        down with its last call while the kernel is still sending, so a client's acknowledgement resets it. GOAWAY
        therefore waits until answers are read.
        """
        with copies(self._port) as held:
            if not self._wait_until_sent(held, deadline.within(_BRISK_S)):
                self._server.stop(deadline.left_s() + _REST_S)

    def stop(self, deadline: Deadline) -> int:
        """Waits until answers are sent, but at most until the deadline, then cancels all other calls.

        Returns:
            Number of unsent answers, as far as known.
        """
        with copies(self._port) as held:
            unsent_answers = self._wait_until_sent(held, deadline)
            # The rest are small answers, and incomplete requests, which were not accepted.
            self._server.stop(deadline.left_s(_REST_S)).wait()
        for each in self._looking:
            each.close()
        return unsent_answers

    def _wait_until_sent(self, held: list[socket.socket], deadline: Deadline) -> int:
        """Waits until answers are sent; returns the number of unsent ones at the deadline."""
        while unsent_answers := max(self._sending.count, len(unsent(held))):
            if not deadline.left_s():
                break
            time.sleep(deadline.left_s(_LOOK_S))
        return unsent_answers


def _age_options(max_age_s: float) -> list[tuple[str, int]]:
    """Returns the options for grpcio to send GOAWAY to connections at an age varied by ±10 %."""
    if not max_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", int(max_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(_STREAMS_S * 1000)),
    ]


def _tls(certificates: "Certificates") -> "GrpcioTls":
    # Imported only if used: its library is needed only for TLS.
    from .grpcio_tls import GrpcioTls

    return GrpcioTls(certificates)
