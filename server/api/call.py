"""The interface between transports and the API: a method's name, the request's bytes, and a call to answer."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..access.authorizer import Principal
from ..engine.request import ComputedBatch
from .status import CallStatus


class Subject(NamedTuple):
    """A call's subject, for logs and traces."""

    model: str
    """The model's name."""
    version: str
    """The version that computes it, or the requested one if it was not found."""
    request_id: str = ""
    """The caller's request id."""


class Record:
    """Details of a call for the access log and traces, kept if a successful call will be reported."""

    __slots__ = ("batch", "is_logged", "is_traced", "queued_ns", "rows")

    def __init__(self, *, is_logged: bool, is_traced: bool) -> None:
        self.is_logged = is_logged
        self.is_traced = is_traced
        self.queued_ns = 0
        self.rows = 0
        self.batch: ComputedBatch | None = None

    def computed(self, batch: ComputedBatch, queued_ns: int, rows: int) -> None:
        """Records the run that computed the call, when its tensors were queued, and how many rows they have."""
        self.rows = rows
        self.batch = batch
        self.queued_ns = queued_ns


class Listener(Protocol):
    """Notified of a server's calls, from any thread. Only `reserve` raises."""

    def reserve(self, call: "Call", size_bytes: int) -> None:
        """Counts additional memory of a call.

        Raises:
            QueueFull: too much is in use.
        """

    def replied(self, call: "Call") -> None:
        """A call's result reached its transport."""

    def all_replied(self, calls: "Sequence[Call]") -> None:
        """The results of calls of one method, without records, reached their transport."""

    def failing(self, call: "Call", status: CallStatus) -> CallStatus:
        """A call fails; returns the status for its caller."""

    def failed(self, call: "Call", status: CallStatus) -> None:
        """The status reached the call's transport."""


class Call:
    """One unary call. The first `reply` or `fail`, from any thread, answers it; later ones do nothing.

    Each transport derives its own class, which sends answers and notices that the caller left.
    """

    via = "grpc"
    """Its transport: grpc, stream (a request of a stream) or http."""
    method = ""
    """Its method's full name."""
    listener: Listener | None = None
    """Notified of its outcome."""
    started_ns = 0
    """Its arrival, by `time.monotonic_ns()`."""
    waited_ns = 0
    """Time that it may have waited to be read before, in nanoseconds."""
    record: Record | None = None
    """Its details; None if a success will not be reported."""
    subject: Subject | Callable[[], Subject] | None = None
    """Its subject, or a function that returns it; for successful calls only with a record."""
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata, by key."""
    principal: Principal | None = None
    """The owner of its token; None if it needed no token."""
    sender: Hashable = None
    """Its sender, for turns in queues: its token's name or, without a token, its connection."""

    def __init__(self, deadline_s: float | None, *, may_compute: bool = False) -> None:
        """Starts out unanswered.

        Args:
            deadline_s: the caller's deadline by `time.monotonic()`, or None.
            may_compute: whether the receiving thread may compute the call, because nothing else waits for that thread.
        """
        self.deadline_s = deadline_s
        self.may_compute = may_compute

    def begin(self, method: str, listener: Listener, now_ns: int, record: Record | None) -> None:
        """Sets its method and listener; called once, before it is handled."""
        self.method = method
        self.listener = listener
        self.started_ns = now_ns
        self.record = record

    def belongs_to(self, principal: Principal) -> None:
        """Sets the owner of its token: all calls of a token have the same sender, whatever their connections."""
        self.principal = principal
        self.sender = principal.name

    def reserve(self, size_bytes: int) -> None:
        """Counts additional memory until the call is answered.

        Raises:
            QueueFull: too much is in use.
        """
        if self.listener is not None:
            self.listener.reserve(self, size_bytes)

    @property
    def peer(self) -> str:
        """The host it came from; empty if the transport does not know."""
        return ""

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the caller's metadata, with keys in lower case."""
        return ()

    def may_see(self, model: str) -> bool:
        """Returns whether an answer may mention a model: a token may be limited to some."""
        return self.principal is None or self.principal.may_use(model)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, from any thread, if the caller leaves before the call is answered."""
        raise NotImplementedError

    def reply(self, message: bytes, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        """Answers OK with a serialized message and trailing metadata. It is not an error if the caller left."""
        if not self.claim():
            return
        refusal = self.hold(message)
        if refusal is not None:
            self.end(refusal)
            return
        if trailing:
            self.trailing = trailing
        try:
            self.send(message)
        finally:
            if self.listener is not None:
                self.listener.replied(self)
            # It refers to the whole run's outputs, and the answer may wait long for its reader.
            self.record = None

    def fail(self, status: CallStatus) -> None:
        """Answers with a status other than OK. It is not an error if the caller left."""
        if self.claim():
            self.end(status)

    def end(self, status: CallStatus) -> None:
        """Answers with a status other than OK, once it is claimed."""
        listener = self.listener
        if listener is not None:
            status = listener.failing(self, status)
        try:
            self.send_status(status)
        finally:
            if listener is not None:
                listener.failed(self, status)
            self.record = None
            # The function may refer to the call: such a cycle would wait for the garbage collector.
            self.subject = None

    def hold(self, message: bytes) -> CallStatus | None:
        """Counts an answer as in flight until it is sent; returns the status to send instead if there is no room."""
        return None

    def claim(self) -> bool:
        """Claims the right to answer: True exactly once, on one thread, which must then answer."""
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Passes the answer to the transport; called at most once, and never together with `send_status`."""
        raise NotImplementedError

    def post(self, message: bytes) -> None:
        """Passes an answer to the transport, which may send it at `flush`, because more answers follow."""
        self.send(message)

    def flush(self) -> None:
        """Sends the answers that this thread posted to this call's transport."""

    def send_status(self, status: CallStatus) -> None:
        """Passes a status other than OK to the transport."""
        raise NotImplementedError


Arrival = tuple[str, bytes, Call]
"""A received call: its method's full name, the serialized request, and the call to answer."""

Handler = Callable[[bytes, Call], None]
"""Handles one method: takes the serialized request, and answers the call now or later.

It may raise a RequestError instead of answering; it must not block.
"""


@runtime_checkable
class GroupHandler(Protocol):
    """A handler that saves work when several calls of its method arrive together."""

    def __call__(self, message: bytes, call: Call, /) -> None:
        """Handles one call, like any handler."""

    def handle_all(self, arrivals: Sequence[Arrival], fail: Callable[[Call, Exception], None]) -> None:
        """Handles calls of its method in order, each as by itself; never raises.

        Args:
            arrivals: the calls, all of which are queued; this thread computes none of them.
            fail: answers a call with the error it would have raised.
        """
