"""The seam between transports and the API: a method's name, the request's bytes, and a call to answer."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..access.authorizer import Principal
from ..engine.request import ComputedBatch
from .status import Status


class Subject(NamedTuple):
    """What a call is about, for whoever looks for it in logs and traces."""

    model: str
    """The model's name."""
    version: str
    """The version that computes or, where it is not found yet, that was asked for."""
    request_id: str = ""
    """The id that the caller gave."""


class Record:
    """What is gathered of one call for the access log and the traces, if they want it although all goes well."""

    __slots__ = ("batch", "is_logged", "is_traced", "queued_ns")

    def __init__(self, *, is_logged: bool, is_traced: bool) -> None:
        self.is_logged = is_logged
        self.is_traced = is_traced
        self.queued_ns = 0
        self.batch: ComputedBatch | None = None

    def computed(self, batch: ComputedBatch, queued_ns: int) -> None:
        """Says which run computed the call, and since when its tensors had waited for one."""
        self.batch = batch
        self.queued_ns = queued_ns


class Listener(Protocol):
    """Hears of a server's calls; from any thread, and raises nothing but what `reserve` says."""

    def reserve(self, call: "Call", size_bytes: int) -> None:
        """Counts memory of a call beside its request.

        Raises:
            QueueFull: too much is in use.
        """

    def replied(self, call: "Call") -> None:
        """Hears that a call's result is with its transport."""

    def all_replied(self, calls: "Sequence[Call]") -> None:
        """Hears the same of calls of one method that have no record."""

    def failing(self, call: "Call", status: Status) -> Status:
        """Hears that a call fails; returns the status that its caller is told."""

    def failed(self, call: "Call", status: Status) -> None:
        """Hears that this status is with the call's transport."""


class Call:
    """One unary call. The first `reply` or `fail`, from whatever thread, answers it; later ones do nothing.

    A transport derives its own, and says there how an answer is sent and how it is heard that the caller has left.
    """

    via = "grpc"
    """How it came: grpc, stream (a request of a stream) or http."""
    method = ""
    """Its method's full name."""
    listener: Listener | None = None
    """Hears what becomes of it."""
    started_ns = 0
    """When it came, by `time.monotonic_ns()`."""
    record: Record | None = None
    """What is gathered of it; None: no one wants to know, if all goes well."""
    subject: Subject | Callable[[], Subject] | None = None
    """What it is about, or what tells it if a listener asks; where all goes well, only if there is a record."""
    trailing: tuple[tuple[str, str], ...] = ()
    """What is told beside the answer, by key."""
    principal: Principal | None = None
    """Whose token it came with; None: it needed none."""
    sender: Hashable = None
    """Who takes turns with other senders in queues: its token's name or, without a token, its connection."""

    def __init__(self, deadline_s: float | None, *, may_compute: bool = False) -> None:
        """Starts out unanswered.

        Args:
            deadline_s: `time.monotonic()` by which the caller wants the answer; None: it did not say.
            may_compute: whether the thread that brings the call may compute it, nothing else waiting for that thread.
        """
        self.deadline_s = deadline_s
        self.may_compute = may_compute

    def begin(self, method: str, listener: Listener, now_ns: int, record: Record | None) -> None:
        """Says what it is, and who hears of it from now on; called once, before it is handled."""
        self.method = method
        self.listener = listener
        self.started_ns = now_ns
        self.record = record

    def belongs_to(self, principal: Principal) -> None:
        """Says whose token it came with: all calls of a token are one sender's, whatever their connections."""
        self.principal = principal
        self.sender = principal.name

    def reserve(self, size_bytes: int) -> None:
        """Counts memory that it takes beside its request, until it is answered.

        Raises:
            QueueFull: too much is in use.
        """
        if self.listener is not None:
            self.listener.reserve(self, size_bytes)

    @property
    def peer(self) -> str:
        """The host that it came from; empty where the transport does not say."""
        return ""

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns what the caller sent beside the request: keys in small letters, and their values."""
        return ()

    def may_see(self, model: str) -> bool:
        """Returns whether an answer may tell of a model: a token can be limited to some."""
        return self.principal is None or self.principal.may_use(model)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Has `callback` called, from any thread, when the caller leaves before it was answered."""
        raise NotImplementedError

    def reply(self, message: bytes, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        """Answers OK with a serialized message, and with what is told beside it. A caller that has left is no error."""
        if self.claim():
            if trailing:
                self.trailing = trailing
            try:
                self.send(message)
            finally:
                if self.listener is not None:
                    self.listener.replied(self)
                # It knows the whole run's outputs, and the answer may wait long for its reader.
                self.record = None

    def fail(self, status: Status) -> None:
        """Answers with a status other than OK. A caller that has left is no error."""
        if self.claim():
            listener = self.listener
            if listener is not None:
                status = listener.failing(self, status)
            try:
                self.send_status(status)
            finally:
                if listener is not None:
                    listener.failed(self, status)
                self.record = None
                # What tells it may know the call: the two would wait for the garbage collector.
                self.subject = None

    def claim(self) -> bool:
        """Returns whether nobody has answered the call before, who then has to: True once, on one thread."""
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Gives the transport the answer; called at most once, and never together with `send_status`."""
        raise NotImplementedError

    def post(self, message: bytes) -> None:
        """Gives the transport an answer that it may send later, when `flush` is called: more calls are answered now."""
        self.send(message)

    def flush(self) -> None:
        """Says that all are answered whose answers were posted to this call's transport by this thread."""

    def send_status(self, status: Status) -> None:
        """Gives the transport a status other than OK."""
        raise NotImplementedError


Arrival = tuple[str, bytes, Call]
"""A call as a transport brings it: its method's full name, the serialized request, and what to answer."""

Handler = Callable[[bytes, Call], None]
"""Handles one method: takes the serialized request, and answers the call now or later.

It may raise a RequestError instead of answering; it must not block.
"""


@runtime_checkable
class GroupHandler(Protocol):
    """A handler that saves work when several calls of its method arrive together."""

    def __call__(self, message: bytes, call: Call, /) -> None:
        """Handles one call, as every handler does."""

    def handle_all(self, arrivals: Sequence[Arrival], fail: Callable[[Call, Exception], None]) -> None:
        """Handles calls of its method in their order, each as the handler would by itself; raises nothing.

        Args:
            arrivals: the calls, all of which are queued: this thread computes none of them.
            fail: answers a call with what it would have raised.
        """
