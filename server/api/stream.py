"""ModelStreamInfer: many requests on one call, each handled like a ModelInfer call.

Answers keep the order of their requests. An error is answered in its place, and the stream continues.
"""

import threading
from collections import deque
from collections.abc import Callable

from pixelserve.oip import inference_pb2 as pb

from ..access.authorizer import Authorizer
from ..errors import InvalidRequest, RequestError, TooManyStreams, Unavailable
from .admission import STOPPING, Admission, FailureCounts
from .call import Call
from .codec import parse
from .codes import StatusCode
from .dispatch import Dispatcher
from .status import CallStatus, status_of
from .streaming import HandOver, Metadata, OpenStream
from .wire import encode_varint

INFER_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
"""Full name of the streaming method."""

_INFER = "/inference.GRPCInferenceService/ModelInfer"

# On the wire (public protocol, ModelStreamInferResponse): number << 3 | 2.
_INFER_RESPONSE = 2 << 3 | 2
# Marks a request's last answer for Triton's clients; here each request has one. Appended as another field.
_IS_FINAL: bytes = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()


class _StreamedCall(Call):
    """One request of a stream, until its answer is written."""

    via = "stream"

    def __init__(self, stream: "InferStream", message: bytes, deadline_s: float | None, metadata: Metadata) -> None:
        super().__init__(deadline_s)
        self._stream = stream
        self._message = message
        self._metadata = metadata
        self._lock = threading.Lock()
        self._is_claimed = False
        self._has_left = False
        self._on_cancel: Callable[[], None] | None = None
        self._reply: bytes | None = None
        self.status: CallStatus | None = None
        """Its error, once known."""

    @property
    def is_answered(self) -> bool:
        """Whether it can be written."""
        return self._reply is not None or self.status is not None

    def metadata(self) -> Metadata:
        return self._metadata

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._on_cancel = callback
            has_left = self._has_left
        if has_left:
            callback()

    def leave(self) -> None:
        """Cancels it: no one waits for the answer."""
        with self._lock:
            self._has_left = True
            callback = None if self._is_claimed else self._on_cancel
        if callback is not None:
            callback()

    def claim(self) -> bool:
        with self._lock:
            is_first, self._is_claimed = not self._is_claimed, True
            # The request refers to its call: this breaks the cycle, which would wait for the garbage collector.
            self._on_cancel = None
        return is_first

    def send(self, message: bytes) -> None:
        self._message = b""
        self._reply = message
        self._stream.answered(self)

    def send_status(self, status: CallStatus) -> None:
        self.status = status
        self._stream.answered(self)

    def encode(self) -> bytes:
        """Returns the serialized ModelStreamInferResponse."""
        if self._reply is not None:
            # Messages of a stream have no metadata of their own.
            told = {key: pb.InferParameter(string_param=value) for key, value in self.trailing}
            parameters = pb.ModelInferResponse(parameters=told).SerializeToString() + _IS_FINAL
            size = encode_varint(len(self._reply) + len(parameters))
            return b"".join((bytes((_INFER_RESPONSE,)), size, self._reply, parameters))
        status = self.status
        if status is None:
            raise RuntimeError("a request is written when it has its answer")
        # The message has no field for the code, which tells a client whether to retry.
        response = pb.ModelStreamInferResponse(error_message=f"{status.code.name}: {status.message}")
        response.infer_response.MergeFromString(_IS_FINAL)
        response.infer_response.id = _id_of(self._message)
        return response.SerializeToString()


class InferStream(OpenStream):
    """One open stream. Thread-safe."""

    def __init__(
        self,
        streams: "InferStreams",
        deadline_s: float | None,
        metadata: Metadata,
        on_change: Callable[[], None],
        hand_over: HandOver,
    ) -> None:
        self._streams = streams
        self._deadline_s = deadline_s
        self._metadata = metadata
        self._on_change = on_change
        self._hand_over = hand_over
        # In order of arrival; the first one's answer is written next.
        self._calls: deque[_StreamedCall] = deque()
        # Requests whose answers are not sent yet.
        self._unwritten = 0
        self._is_finished = False
        self._has_left = False
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        return self._unwritten < self._streams.window

    @property
    def is_over(self) -> bool:
        return self._has_left or (self._is_finished and not self._calls)

    @property
    def has_answer(self) -> bool:
        calls = self._calls
        return not self._has_left and bool(calls) and calls[0].is_answered

    def take(self, message: bytes) -> None:
        call = _StreamedCall(self, message, self._deadline_s, self._metadata)
        with self._lock:
            if self._is_finished:
                return
            self._calls.append(call)
            self._unwritten += 1
        self._hand_over(_INFER, message, call)

    def finish(self) -> None:
        """No more requests will come: the stream ends when the received ones are answered."""
        self._is_finished = True
        self._on_change()

    def end(self) -> None:
        """The server stops: the stream ends with UNAVAILABLE when the received requests are answered."""
        self._end_with(status_of(Unavailable(STOPPING)))

    def _end_with(self, status: CallStatus) -> None:
        with self._lock:
            if not self._is_finished:
                self.status = status
            self._is_finished = True
        self._on_change()

    def close(self) -> None:
        """Closes the stream: nothing more is written, and waiting requests are dropped."""
        with self._lock:
            self._is_finished = self._has_left = True
            calls = list(self._calls)
        for call in calls:
            call.leave()
        self._on_change()
        self._streams.forget(self)

    def answered(self, call: _StreamedCall) -> None:
        """A request has its answer."""
        status = call.status
        # Further requests would get the same error: the server stops or the stream's token was revoked.
        if status is not None and self._streams.is_draining:
            self.end()
        elif status is not None and status.code is StatusCode.UNAUTHENTICATED:
            self._end_with(status)
        if self.has_answer:
            self._on_change()

    def next_answer(self) -> bytes | None:
        with self._lock:
            if not self.has_answer:
                return None
            call = self._calls.popleft()
        return call.encode()

    def written(self) -> None:
        with self._lock:
            self._unwritten -= 1


class InferStreams:
    """All open streams of a server. Thread-safe.

    Args:
        dispatcher: handles the requests of all streams.
        admission: knows whether the server is draining.
        failure_counts: counts refused streams; requests of streams count as calls.
        authorizer: checks tokens; None: all clients may open streams.
        max_streams: maximum open streams.
        window: maximum requests of a stream with unwritten answers.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        failure_counts: FailureCounts | None = None,
        authorizer: Authorizer | None = None,
        *,
        max_streams: int,
        window: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._admission = admission
        self._failure_counts = failure_counts
        self._authorizer = authorizer
        self._max_streams = max_streams
        self.window = window
        self._open: set[InferStream] = set()
        self._has_ended = False
        self._changed = threading.Condition(threading.Lock())

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._admission.is_draining

    def open(
        self,
        deadline_s: float | None,
        metadata: Metadata = (),
        *,
        on_change: Callable[[], None] = lambda: None,
        hand_over: HandOver | None = None,
    ) -> InferStream:
        """Opens a stream; see `StreamedMethod`.

        Raises:
            Unauthenticated, PermissionDenied: the client's token does not permit this.
            Unavailable: the server is draining.
            TooManyStreams: the maximum is open.
        """
        try:
            return self._open_one(deadline_s, metadata, on_change, hand_over or self._dispatcher.handle)
        except RequestError as error:
            if self._failure_counts is not None:
                self._failure_counts.add(INFER_STREAM, status_of(error))
            raise

    def _open_one(
        self, deadline_s: float | None, metadata: Metadata, on_change: Callable[[], None], hand_over: HandOver
    ) -> InferStream:
        if self._authorizer is not None:
            self._authorizer.authorize_stream(INFER_STREAM, metadata)
        with self._changed:
            # With the lock held, so `end` either ends this stream or refuses it.
            if self._has_ended or self._admission.is_draining:
                raise Unavailable(STOPPING)
            if len(self._open) >= self._max_streams:
                raise TooManyStreams(
                    f"{len(self._open)} streams are open and no more are accepted (--max-infer-streams); send more "
                    f"requests on one that is open, close one, or call ModelInfer"
                )
            stream = InferStream(self, deadline_s, metadata, on_change, hand_over)
            self._open.add(stream)
        return stream

    def forget(self, stream: InferStream) -> None:
        """Makes room for another stream."""
        with self._changed:
            self._open.discard(stream)
            self._changed.notify_all()

    def end(self, timeout_s: float) -> None:
        """Refuses new streams, ends all others once their requests are answered, and waits up to `timeout_s`."""
        with self._changed:
            self._has_ended = True
            streams = list(self._open)
        for stream in streams:
            stream.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout_s)


def _id_of(message: bytes) -> str:
    """Returns a request's id; empty if the message cannot be parsed."""
    try:
        return parse(message).head.id
    except InvalidRequest:
        return ""
