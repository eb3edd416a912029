"""ModelStreamInfer: many requests on one call, each of which is handled as a ModelInfer call of its own.

Answers come in the order of their requests. One that fails is told so in its place, and the stream lives on.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import grpc

from pixelserve.oip import inference_pb2 as pb

from ..access.authorizer import Authorizer
from ..errors import InvalidRequest, RequestError, TooManyStreams, Unavailable
from .admission import STOPPING, Admission, FailureCounts
from .call import Call
from .codec import parse
from .dispatch import Dispatcher
from .status import Status, status_of
from .wire import encode_varint

Metadata = Sequence[tuple[str, str | bytes]]

_INFER = "/inference.GRPCInferenceService/ModelInfer"

# On the wire (public protocol, ModelStreamInferResponse): number << 3 | 2.
_INFER_RESPONSE = 2 << 3 | 2
# What Triton's clients tell a request's last answer by; here each has one. Appended, it is one more field.
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
        self.status: Status | None = None
        """What went wrong, once it is known."""

    @property
    def is_answered(self) -> bool:
        """Whether there is something to write."""
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
        """Tells whoever works on it that nobody waits for it any more."""
        with self._lock:
            self._has_left = True
            callback = None if self._is_claimed else self._on_cancel
        if callback is not None:
            callback()

    def claim(self) -> bool:
        with self._lock:
            is_first, self._is_claimed = not self._is_claimed, True
            # The request knows its call: without this the two would wait for the garbage collector.
            self._on_cancel = None
        return is_first

    def send(self, message: bytes) -> None:
        self._message = b""
        self._reply = message
        self._stream.wake()

    def send_status(self, status: Status) -> None:
        self.status = status
        self._stream.wake()

    def encode(self) -> bytes:
        """Returns the serialized ModelStreamInferResponse."""
        if self._reply is not None:
            # A message of a stream has no metadata of its own.
            told = {key: pb.InferParameter(string_param=value) for key, value in self.trailing}
            parameters = pb.ModelInferResponse(parameters=told).SerializeToString() + _IS_FINAL
            size = encode_varint(len(self._reply) + len(parameters))
            return b"".join((bytes((_INFER_RESPONSE,)), size, self._reply, parameters))
        status = self.status
        if status is None:
            raise RuntimeError("a request is written when it has its answer")
        # The message has no field for the code, by which a client knows whether to try again.
        response = pb.ModelStreamInferResponse(error_message=f"{status.code.name}: {status.message}")
        response.infer_response.MergeFromString(_IS_FINAL)
        response.infer_response.id = _id_of(self._message)
        return response.SerializeToString()


class InferStream:
    """One open stream: one thread reads its requests and another writes its answers, as the transport has them do.

    Reader: `while stream.has_room(): stream.take(message)`, then `stream.finish()`. Writer: `stream.answers()`, then
    `stream.status`. Everything else may be called from any thread.
    """

    status: Status | None = None
    """How the stream ends; None: OK."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        window: int,
        deadline_s: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        """Starts out without requests.

        Args:
            dispatcher: handles the requests.
            admission: knows whether the server is draining.
            window: most requests that are read and whose answers are not written yet.
            deadline_s: `time.monotonic()` by which the whole stream will have been given up; None: never.
            metadata: what the client sent when it opened the stream; it holds for every request.
        """
        self._dispatcher = dispatcher
        self._admission = admission
        self._window = window
        self._deadline_s = deadline_s
        self._metadata = metadata
        # In the order of their arrival; the first one's answer is the next to be written.
        self._calls: deque[_StreamedCall] = deque()
        self._is_finished = False
        self._has_left = False
        self._changed = threading.Condition(threading.Lock())

    def has_room(self) -> bool:
        """Waits until another request may be read; returns False where none is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._calls) < self._window or self._is_finished)
            return not self._is_finished

    def take(self, message: bytes) -> None:
        """Handles one request; raises nothing."""
        call = _StreamedCall(self, message, self._deadline_s, self._metadata)
        with self._changed:
            if self._is_finished:
                return
            self._calls.append(call)
        self._dispatcher.handle(_INFER, message, call)
        status = call.status
        if status is None:
            return
        # The next one would hear nothing else, because the server stops or the stream's token was revoked.
        if self._admission.is_draining:
            self.end()
        elif status.code is grpc.StatusCode.UNAUTHENTICATED:
            self._end_with(status)

    def finish(self) -> None:
        """Says that no more requests will come: the stream ends when those that came are answered."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def end(self) -> None:
        """Takes no more requests, because the server stops: the stream ends with UNAVAILABLE when those that came are
        answered."""
        self._end_with(status_of(Unavailable(STOPPING)))

    def _end_with(self, status: Status) -> None:
        with self._changed:
            if not self._is_finished:
                self.status = status
            self._is_finished = True
            self._changed.notify_all()

    def leave(self) -> None:
        """Tells that the client has left: nothing is written any more, and what has not started is not computed."""
        with self._changed:
            self._is_finished = self._has_left = True
            calls = list(self._calls)
            self._changed.notify_all()
        for call in calls:
            call.leave()

    def wake(self) -> None:
        """Tells that a request has its answer."""
        with self._changed:
            if self._calls and self._calls[0].is_answered:
                self._changed.notify_all()

    def answers(self) -> Iterator[bytes]:
        """Yields the serialized answers in the order of their requests until the stream ends."""
        while (call := self._next_answered()) is not None:
            yield call.encode()
            with self._changed:
                self._calls.popleft()
                self._changed.notify_all()

    def _next_answered(self) -> _StreamedCall | None:
        with self._changed:
            self._changed.wait_for(self._can_go_on)
            return self._calls[0] if self._calls and not self._has_left else None

    def _can_go_on(self) -> bool:
        """Returns whether there is an answer to write, or will be none."""
        return self._has_left or (self._calls[0].is_answered if self._calls else self._is_finished)


class InferStreams:
    """All open streams of a server. Every method may be called from any thread."""

    method = "/inference.GRPCInferenceService/ModelStreamInfer"
    """Full name of the method whose calls are these streams."""

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
        """Starts out with none.

        Args:
            dispatcher: handles the requests of all streams.
            admission: knows whether the server is draining.
            failure_counts: counts the streams that are refused; their requests count as calls of their own.
            authorizer: checks tokens; None: everyone may open streams.
            max_streams: most streams that are open at once.
            window: most requests of a stream that are read and whose answers are not written yet.
        """
        self._dispatcher = dispatcher
        self._admission = admission
        self._failure_counts = failure_counts
        self._authorizer = authorizer
        self._max_streams = max_streams
        self._window = window
        self._open: set[InferStream] = set()
        self._changed = threading.Condition(threading.Lock())

    def open(self, deadline_s: float | None, metadata: Metadata = ()) -> InferStream:
        """Opens a stream, to be closed by `close`.

        Args:
            deadline_s: `time.monotonic()` by which the client gives the stream up; None: it did not say.
            metadata: what it sent beside.

        Raises:
            Unauthenticated, PermissionDenied: the client has no token that allows this.
            Unavailable: the server is draining.
            TooManyStreams: as many are open as may.
        """
        try:
            return self._open_one(deadline_s, metadata)
        except RequestError as error:
            if self._failure_counts is not None:
                self._failure_counts.add(self.method, status_of(error))
            raise

    def _open_one(self, deadline_s: float | None, metadata: Metadata) -> InferStream:
        if self._authorizer is not None:
            self._authorizer.authorize_stream(self.method, metadata)
        if self._admission.is_draining:
            raise Unavailable(STOPPING)
        with self._changed:
            if len(self._open) >= self._max_streams:
                raise TooManyStreams(
                    f"{len(self._open)} streams are open and no more are taken (--max-infer-streams); send more "
                    f"requests on one that is open, close one, or call ModelInfer"
                )
            stream = InferStream(self._dispatcher, self._admission, self._window, deadline_s, metadata)
            self._open.add(stream)
        return stream

    def close(self, stream: InferStream) -> None:
        """Forgets a stream whose call has ended; a second time does nothing."""
        stream.leave()
        with self._changed:
            self._open.discard(stream)
            self._changed.notify_all()

    def end(self, timeout_s: float) -> None:
        """Ends all streams once their requests are answered, and waits for that, but no longer than `timeout_s`."""
        with self._changed:
            streams = list(self._open)
        for stream in streams:
            stream.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout_s)


def _id_of(message: bytes) -> str:
    """Returns a request's id; empty where the message cannot be read."""
    try:
        return parse(message).head.id
    except InvalidRequest:
        return ""
