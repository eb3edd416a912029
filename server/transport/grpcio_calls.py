"""grpcio's calls: passes messages to the dispatcher, and answers to the call's context.

A thread carries each call: it passes the request on and sleeps until the engine's thread has answered. Answering
from the engine's thread would need no such thread, but uses grpcio's private API and was only 1 to 10 % faster
(docs/adr/0002-transport-interface.md).
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import grpc

from ..api.admission import Admission
from ..api.call import Call
from ..api.dispatch import Dispatcher
from ..api.status import CallStatus, status_of
from ..api.streaming import OpenStream, StreamedMethod
from ..errors import RequestError
from . import SLOW_BYTES_PER_S, Services
from .grpcio_receiving import Receiving

if TYPE_CHECKING:
    from .grpcio_tls import GrpcioTls

# grpcio sets a deadline centuries away for calls without one.
_NO_DEADLINE_S = 10 * 365 * 24 * 3600.0
# Smaller answers are bounded by the calls in flight per connection.
_HELD_BYTES = 16 * 1024
# grpcio copies an answer, and keeps both until it is sent.
_COPIES = 2
_NO_MESSAGE = "the call has no message; expected one, which this method takes"


class Sending:
    """The answers that are being sent. Thread-safe.

    Args:
        unread_s: seconds after which an unread answer's call is cancelled, in addition to the time of a slow reader,
            because grpcio does not report progress.
    """

    def __init__(self, unread_s: float) -> None:
        self._unread_s = unread_s
        # The time by which each call's answer must be sent.
        self._due_s: dict[grpc.ServicerContext, float] = {}

    @property
    def count(self) -> int:
        """Number of answers."""
        return len(self._due_s)

    def begin(self, context: grpc.ServicerContext, size_bytes: int) -> None:
        """Adds an answer to the only one of its call."""
        self._due_s[context] = time.monotonic() + self._unread_s + size_bytes / SLOW_BYTES_PER_S

    def end(self, context: grpc.ServicerContext) -> None:
        """Removes an answer that was sent, or cannot be."""
        self._due_s.pop(context, None)

    def cancel_unread(self) -> None:
        """Cancels the calls whose answers should have been read by now."""
        now_s = time.monotonic()
        for context, due_s in self._due_s.copy().items():
            if due_s < now_s:
                context.cancel()


class _GrpcioCall(Call):
    """One call, awaited by the thread that carries it."""

    def __init__(self, context: grpc.ServicerContext, sender: str, admission: Admission, sending: Sending) -> None:
        # Its thread sleeps and could compute, but calls arrive one by one: each would find the model idle and prevent
        # batches (measured at 32 in flight: 3,300 requests/s instead of 4,600).
        super().__init__(_deadline_s(context))
        self.sender = sender
        self._context = context
        self._transport_admission = admission
        self._sending = sending
        self._message: bytes | None = None
        self._status: CallStatus | None = None
        # A bare lock is the cheapest way to wait for another thread.
        self._answered = threading.Lock()
        self._answered.acquire()
        self._answer_lock = threading.Lock()
        self._is_answered = False
        self._is_awake = False

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return _metadata(self._context)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        def left() -> None:
            # Called when the call ends for any reason; after an answer there is nothing to cancel.
            if not self._is_answered:
                # Ongoing work will still answer the call, but its thread need not wait for that.
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
        self._message = message
        self._wake()

    def hold(self, message: bytes) -> CallStatus | None:
        size_bytes = len(message)
        if size_bytes < _HELD_BYTES:
            return None
        held_bytes = _COPIES * size_bytes
        refusal = self._transport_admission.hold_answer(self, held_bytes)
        if refusal is not None:
            return refusal
        self._sending.begin(self._context, size_bytes)

        def sent() -> None:
            self._sending.end(self._context)
            self._transport_admission.release(held_bytes)

        if not self._context.add_callback(sent):
            sent()
        return None

    def send_status(self, status: CallStatus) -> None:
        self._status = status
        self._wake()

    def _wake(self) -> None:
        with self._answer_lock:
            if not self._is_awake:
                self._is_awake = True
                self._answered.release()

    def wait(self) -> bytes:
        """Waits until the call is answered or its caller has left; returns the answer, or aborts with its status."""
        self._answered.acquire()
        if self._status is not None:
            self._context.set_trailing_metadata(self._status.trailing)
            self._context.abort(_code(self._status), self._status.message)
        if self.trailing:
            self._context.set_trailing_metadata(self.trailing)
        # A caller who has left receives nothing.
        return self._message or b""


class Handler(grpc.GenericRpcHandler):
    """Passes serialized requests to the dispatcher, so all transports run the same code."""

    def __init__(self, services: Services, tls: "GrpcioTls | None", receiving: Receiving, sending: Sending) -> None:
        self._services = services
        self._tls = tls
        self._receiving = receiving
        self._sending = sending
        self._streamed = {
            name: _stream_handler(method, tls, receiving, sending, services.dispatcher)
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

        def carry(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            _check_client(self._tls, context)
            sender = context.peer()
            message = self._receiving.next(messages, context, sender)
            if message is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, _NO_MESSAGE)
            call = _GrpcioCall(context, sender, self._services.admission, self._sending)
            self._services.dispatcher.handle(method, message, call)
            return call.wait()

        # As a stream of messages, because those of a unary handler are received before it is called.
        return grpc.stream_unary_rpc_method_handler(carry)

    def _refusal(self, method: str, status: CallStatus) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Returns a handler that answers a call with a status, without reading its message."""

        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            call = _GrpcioCall(context, context.peer(), self._services.admission, self._sending)
            self._services.dispatcher.refuse(method, call, status)
            return call.wait()

        return grpc.stream_unary_rpc_method_handler(refuse)


def _check_client(tls: "GrpcioTls | None", context: grpc.ServicerContext) -> None:
    """Ends the call if its client's certificate is refused."""
    if tls is not None and (reason := tls.refusal(context)) is not None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)


class _StreamSync:
    """Synchronises the two threads of a stream with each other and with answers."""

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
    tls: "GrpcioTls | None",
    receiving: Receiving,
    sending: Sending,
    dispatcher: Dispatcher,
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Returns the handler of streams: a thread writes each one's answers, another reads its messages."""

    def carry(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        _check_client(tls, context)
        sync, sender = _StreamSync(), context.peer()

        def hand_over(name: str, message: bytes, call: Call) -> None:
            call.sender = sender
            dispatcher.handle(name, message, call)

        try:
            stream = method.open(_deadline_s(context), _metadata(context), on_change=sync.tell, hand_over=hand_over)
        except RequestError as error:
            status = status_of(error)
            context.abort(_code(status), status.message)
        # Detects a leaving client while both threads wait for something else.
        if not context.add_callback(stream.close):
            stream.close()

        def next_message() -> bytes | None:
            return receiving.next(messages, context, sender)

        threading.Thread(target=_read, args=(next_message, stream, sync), name="stream", daemon=True).start()
        try:
            yield from _answers(stream, sync, sending, context)
        finally:
            # Before the client can learn of its end and open the next stream.
            stream.close()
            sync.tell()
        if stream.status is not None:
            context.set_code(_code(stream.status))
            context.set_details(stream.status.message)

    return grpc.stream_stream_rpc_method_handler(carry)


def _answers(stream: OpenStream, sync: _StreamSync, sending: Sending, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Yields a stream's answers until its end."""
    while True:
        while (answer := stream.next_answer()) is not None:
            sending.begin(context, len(answer))
            try:
                # Resumes once it is sent; ends if it cannot be.
                yield answer
            finally:
                sending.end(context)
            stream.written()
            sync.tell()
        if stream.is_over:
            return
        sync.wait_for(lambda: stream.has_answer or stream.is_over)


def _read(next_message: Callable[[], bytes | None], stream: OpenStream, sync: _StreamSync) -> None:
    """Reads a stream's messages one at a time; HTTP/2's flow control holds the rest back at the client."""
    try:
        while True:
            sync.wait_for(lambda: stream.has_room or stream.is_over)
            if stream.is_over or (message := next_message()) is None:
                break
            stream.take(message)
    except grpc.RpcError:
        # The client has left; the call's callback reports it.
        pass
    finally:
        stream.finish()


def _metadata(context: grpc.ServicerContext) -> Sequence[tuple[str, str | bytes]]:
    return context.invocation_metadata() or ()


def _deadline_s(context: grpc.ServicerContext) -> float | None:
    remaining_s = context.time_remaining()
    has_deadline = remaining_s is not None and remaining_s < _NO_DEADLINE_S
    return time.monotonic() + remaining_s if has_deadline else None


def _code(status: CallStatus) -> grpc.StatusCode:
    """Returns grpc's own code of a status."""
    return grpc.StatusCode[status.code.name]
