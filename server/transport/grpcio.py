"""grpcio's server: carries every method.

A thread of the pool carries a call from its arrival to its answer: it hands the request on and sleeps until the
engine's thread has answered. Answering from the engine's thread needs no such thread, but it is private to grpcio and
was measured to be only 1 to 10 % faster (docs/adr/0002-seam.md).
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from ..api.admission import Admission
from ..api.call import Call
from ..api.dispatch import Dispatcher
from ..api.status import Status, status_of
from ..api.streaming import OpenStream, StreamedMethod
from ..deadline import Deadline
from ..errors import RequestError, StartupError
from . import Services
from .linger import copies, unsent

if TYPE_CHECKING:
    from .certificates import Certificates
    from .grpcio_tls import GrpcioTls

# grpcio gives a call without a deadline one that is centuries away.
_NO_DEADLINE_S = 10 * 365 * 24 * 3600.0
# As many connections may bring all the calls that they may have in the same moment.
_CONNECTIONS_AT_ONCE = 4
# For so long streams go on on a connection that is too old, as on h2corn's.
_STREAMS_S = 3600.0
# What clients get to send the rest of a request when the server ends; nothing waits for longer.
_REST_S = 1.0
_LOOK_S = 0.02
# What readers take that are not slow, acknowledgements that wait for others included.
_BRISK_S = 0.2
# Answers of fewer bytes are bounded by how many calls a connection may have in flight.
_HELD_BYTES = 16 * 1024


class _Sending:
    """Counts the answers that are being sent. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, number: int) -> None:
        with self._lock:
            self.count += number


class _GrpcioCall(Call):
    """One call, waited for by the thread that carries it."""

    def __init__(self, context: grpc.ServicerContext, admission: Admission, sending: _Sending) -> None:
        # Its thread only sleeps and might compute, but calls come one by one: each would find the model idle, and there
        # would be no batches (measured at 32 in flight: 3,300 requests/s instead of 4,600).
        super().__init__(_deadline_s(context))
        self.sender = context.peer()
        self._context = context
        self._transport_admission = admission
        self._sending = sending
        self._message: bytes | None = None
        self._status: Status | None = None
        # A bare lock is the cheapest thing one thread can wait on and another set.
        self._answered = threading.Lock()
        self._answered.acquire()
        self._answer_lock = threading.Lock()
        self._is_answered = False
        self._is_awake = False

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return _metadata(self._context)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        def left() -> None:
            # Called when the call ends for whatever reason; after an answer there is nothing to cancel.
            if not self._is_answered:
                # Whatever works on it will answer it, if only to be done with it; its thread need not wait for that.
                self._wake()
                callback()

        if not self._context.add_callback(left):
            left()

    def claim(self) -> bool:
        with self._answer_lock:
            if self._is_answered:
                return False
            self._is_answered = True
            return True

    def send(self, message: bytes) -> None:
        if len(message) >= _HELD_BYTES:
            self._hold(len(message))
        self._message = message
        self._wake()

    def _hold(self, size_bytes: int) -> None:
        """Counts an answer as in flight until the call has ended, which is when it is sent."""
        self._transport_admission.hold(size_bytes)
        self._sending.add(1)

        def sent() -> None:
            self._sending.add(-1)
            self._transport_admission.release(size_bytes)

        if not self._context.add_callback(sent):
            sent()

    def send_status(self, status: Status) -> None:
        self._status = status
        self._wake()

    def _wake(self) -> None:
        with self._answer_lock:
            if not self._is_awake:
                self._is_awake = True
                self._answered.release()

    def wait(self) -> bytes:
        """Sleeps until the call is answered or its caller has left; returns the answer, or aborts with its status."""
        self._answered.acquire()
        if self._status is not None:
            self._context.set_trailing_metadata(self._status.trailing)
            self._context.abort(self._status.code, self._status.message)
        if self.trailing:
            self._context.set_trailing_metadata(self.trailing)
        # Nothing that is sent to a caller who has left arrives.
        return self._message or b""


class _Handler(grpc.GenericRpcHandler):
    """Hands the dispatcher serialized requests, so that this transport and any other run the same code."""

    def __init__(
        self, services: Services, stream_pool: ThreadPoolExecutor, tls: "GrpcioTls | None", sending: _Sending
    ) -> None:
        self._services = services
        self._tls = tls
        self._sending = sending
        self._streamed = {
            name: _stream_handler(method, stream_pool, tls, sending, services.dispatcher)
            for name, method in services.streamed.items()
        }

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        method = details.method
        if not self._services.dispatcher.serves(method):
            return self._streamed.get(method)
        try:
            self._services.dispatcher.check_caller(method, details.invocation_metadata or ())
        except RequestError as error:
            return self._refusal(method, status_of(error))

        def carry(message: bytes, context: grpc.ServicerContext) -> bytes:
            _check_client(self._tls, context)
            call = _GrpcioCall(context, self._services.admission, self._sending)
            self._services.dispatcher.handle(method, message, call)
            return call.wait()

        return grpc.unary_unary_rpc_method_handler(carry)

    def _refusal(self, method: str, status: Status) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Returns what answers a call with a status, and reads nothing of its message."""

        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            call = _GrpcioCall(context, self._services.admission, self._sending)
            self._services.dispatcher.refuse(method, call, status)
            return call.wait()

        return grpc.stream_unary_rpc_method_handler(refuse)


def _check_client(tls: "GrpcioTls | None", context: grpc.ServicerContext) -> None:
    """Ends the call of a client whose certificate is not taken."""
    if tls is not None and (reason := tls.refusal(context)) is not None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)


class _Turns:
    """Where the two threads of a stream wait for each other and for answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(condition)


def _stream_handler(
    method: StreamedMethod,
    pool: ThreadPoolExecutor,
    tls: "GrpcioTls | None",
    sending: _Sending,
    dispatcher: Dispatcher,
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Returns the handler of streams: a thread of the pool writes each one's answers, another reads its messages."""

    def carry(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        _check_client(tls, context)
        turns, sender = _Turns(), context.peer()

        def hand_over(name: str, message: bytes, call: Call) -> None:
            call.sender = sender
            dispatcher.handle(name, message, call)

        try:
            stream = method.open(_deadline_s(context), _metadata(context), on_change=turns.tell, hand_over=hand_over)
        except RequestError as error:
            status = status_of(error)
            context.abort(status.code, status.message)
        # A client that leaves must be noticed while both threads wait for something else.
        if not context.add_callback(stream.close):
            stream.close()
        threading.Thread(target=_read, args=(messages, stream, turns), name="stream", daemon=True).start()
        try:
            yield from _answers(stream, turns, sending)
        finally:
            # Before the client can hear that it has ended, and open the next.
            stream.close()
            turns.tell()
        if stream.status is not None:
            context.set_code(stream.status.code)
            context.set_details(stream.status.message)

    # Streams last as long as their clients like, and must leave the threads of the other calls alone.
    carry.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.stream_stream_rpc_method_handler(carry)


def _answers(stream: OpenStream, turns: _Turns, sending: _Sending) -> Iterator[bytes]:
    """Yields a stream's answers until there will be no more."""
    while True:
        while (answer := stream.next_answer()) is not None:
            sending.add(1)
            try:
                # Goes on when it is sent, or ends when it cannot be.
                yield answer
            finally:
                sending.add(-1)
            stream.written()
            turns.tell()
        if stream.is_over:
            return
        turns.wait_for(lambda: stream.has_answer or stream.is_over)


def _read(messages: Iterator[bytes], stream: OpenStream, turns: _Turns) -> None:
    """Reads a stream's messages, one at a time: what is not read waits with the client, by HTTP/2's flow control."""
    try:
        while True:
            turns.wait_for(lambda: stream.has_room or stream.is_over)
            if stream.is_over or (message := next(messages, None)) is None:
                break
            stream.take(message)
    except grpc.RpcError:
        # The client has left; whoever waits for that is told by the call's callback.
        pass
    finally:
        stream.finish()


def _metadata(context: grpc.ServicerContext) -> Sequence[tuple[str, str | bytes]]:
    return context.invocation_metadata() or ()


def _deadline_s(context: grpc.ServicerContext) -> float | None:
    remaining_s = context.time_remaining()
    has_deadline = remaining_s is not None and remaining_s < _NO_DEADLINE_S
    return time.monotonic() + remaining_s if has_deadline else None


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
        self._sending = _Sending()
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
        self._server.add_generic_rpc_handlers((_Handler(services, self._stream_pool, self._tls, self._sending),))
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
