"""grpcio's server: its port, from binding to the last answer sent."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from ..deadline import Deadline
from ..errors import StartupError
from . import Services
from .grpcio_calls import Handler, Sending
from .linger import copies, unsent

if TYPE_CHECKING:
    from .certificates import Certificates
    from .grpcio_tls import GrpcioTls

# As many connections may bring all the calls that they may have in the same moment.
_CONNECTIONS_AT_ONCE = 4
# For so long streams go on on a connection that is too old, as on h2corn's.
_STREAMS_S = 3600.0
# What clients get to send the rest of a request when the server ends; nothing waits for longer.
_REST_S = 1.0
_LOOK_S = 0.02
# What readers take that are not slow, acknowledgements that wait for others included.
_BRISK_S = 0.2


class GrpcioTransport:
    """Owns the gRPC port."""

    name = "grpcio"

    def __init__(
        self,
        *,
        threads: int,
        max_waiting: int,
        max_streamed: int,
        max_message_bytes: int,
        max_streams: int,
        max_header_bytes: int = 16 * 1024,
        handshake_s: float = 5.0,
        max_age_s: float = 0.0,
        certificates: "Certificates | None" = None,
    ) -> None:
        """Builds a server that listens nowhere yet.

        Args:
            threads: how many calls are carried at once.
            max_waiting: how many more may wait for a thread; what comes then is refused with RESOURCE_EXHAUSTED.
            max_streamed: how many calls with streams are carried besides.
            max_message_bytes: largest message taken or sent.
            max_streams: most calls in flight on one connection.
            max_header_bytes: most bytes of a call's headers.
            handshake_s: seconds from a connection's arrival to the end of its handshakes.
            max_age_s: seconds, varied by a tenth, after which a connection is told to go; 0: none is.
            certificates: encrypt its connections; None: they are not encrypted.
        """
        self._tls = _tls(certificates) if certificates else None
        self._port = 0
        self._sending = Sending()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="grpc")
        # One thread more than calls, which tells the others that there are too many.
        self._stream_pool = ThreadPoolExecutor(max_workers=max_streamed + 1, thread_name_prefix="stream")
        self._server = grpc.server(
            self._pool,
            maximum_concurrent_rpcs=threads + max_waiting + max_streamed,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_concurrent_streams", max_streams),
                ("grpc.max_metadata_size", max_header_bytes),
                ("grpc.absolute_max_metadata_size", max_header_bytes),
                ("grpc.server_handshake_timeout_ms", int(handshake_s * 1000)),
                # Clients that keep a connection alive by pings are not told that they send too many.
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
        """Takes the port (0: a free one) and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(f"{shown}:{port}")
            else:
                bound = self._server.add_secure_port(f"{shown}:{port}", self._tls.credentials())
        except RuntimeError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for gRPC: it is in use, or not ours to take; "
                f"choose another with --grpc-port (0: a free one) or --host"
            ) from error
        self._port = bound
        return f"{shown}:{bound}"

    def start(self, services: Services) -> None:
        """Starts taking calls."""
        self._server.add_generic_rpc_handlers((Handler(services, self._stream_pool, self._tls, self._sending),))
        self._server.start()

    def renew(self, certificates: "Certificates") -> None:
        """Encrypts what connects from now on with these; connections that are open go on as they are.

        Raises:
            Exception: it cannot; everything stays as it is.
        """
        if self._tls is not None:
            self._tls.renew(certificates)

    def replace_connections(self) -> None:
        """Does nothing: grpcio ends each connection at its age."""

    def retire(self, deadline: Deadline) -> None:
        """Tells every connection to go once what is in flight on it is answered, or the deadline has passed.

        grpcio takes no new connections from then on, and ends a call that crosses the news as CANCELLED. It also shuts
        a connection down with its last call, while the kernel still sends: what a client acknowledges then resets it.
        So while answers are being read, no one is told.
        """
        with copies(self._port) as held:
            if not self._wait_until_sent(held, deadline.within(_BRISK_S)):
                self._server.stop(deadline.left_s() + _REST_S)

    def stop(self, deadline: Deadline) -> int:
        """Waits until answers are sent, but no longer than until the deadline, and cancels whatever else there is.

        Returns:
            How many answers were not sent, as far as it can be seen.
        """
        with copies(self._port) as held:
            unsent_answers = self._wait_until_sent(held, deadline)
            # What is left are small answers, and requests that are not whole, and so not accepted.
            self._server.stop(deadline.left_s(_REST_S)).wait()
        self._pool.shutdown(wait=False)
        self._stream_pool.shutdown(wait=False)
        return unsent_answers

    def _wait_until_sent(self, held: list[socket.socket], deadline: Deadline) -> int:
        """Waits until answers are sent; returns how many were not by the deadline."""
        while unsent_answers := max(self._sending.count, len(unsent(held))):
            if not deadline.left_s():
                break
            time.sleep(deadline.left_s(_LOOK_S))
        return unsent_answers


def _age_options(max_age_s: float) -> list[tuple[str, int]]:
    """Returns the options by which grpcio varies the age of each connection by a tenth, and tells it to go by then."""
    if not max_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", int(max_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(_STREAMS_S * 1000)),
    ]


def _tls(certificates: "Certificates") -> "GrpcioTls":
    # Imported only where it is used: without TLS nobody needs its library.
    from .grpcio_tls import GrpcioTls

    return GrpcioTls(certificates)
