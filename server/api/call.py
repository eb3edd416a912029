"""The seam between transports and the API: a method's name, the request's bytes, and a call to answer."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from .status import Status, as_triton

if TYPE_CHECKING:
    from ..access.authorizer import Principal
    from .admission import Admission, FailureCounts
    from .watch import CallWatch, Record


class Subject(NamedTuple):
    """What a call is about, for whoever looks for it in logs and traces."""

    model: str
    """The model's name."""
    version: str
    """The version that computes or, where it is not found yet, that was asked for."""
    request_id: str = ""
    """The id that the caller gave."""


class Call:
    """One unary call. The first `reply` or `fail`, from whatever thread, answers it; later ones do nothing.

    A transport derives its own, and says there how an answer is sent and how it is heard that the caller has left.
    """

    via = "grpc"
    """How it came: grpc, stream (a request of a stream) or http."""
    method = ""
    """Its method's full name."""
    admission: "Admission | None" = None
    """Counts the call until it is answered."""
    failure_counts: "FailureCounts | None" = None
    """Counts it where it fails."""
    watch: "CallWatch | None" = None
    """Tells the log and the traces of it."""
    record: "Record | None" = None
    """What is gathered for them, where they want to know of it even if all goes well."""
    started_ns = 0
    """When it came, by `time.monotonic_ns()`; set where it is watched."""
    subject: Subject | None = None
    """What it is about, once that is known; where all goes well, only if there is a record."""
    trailing: tuple[tuple[str, str], ...] = ()
    """What is told beside the answer, by key; set before `reply`."""
    principal: "Principal | None" = None
    """Whose token it came with; None: it needed none."""
    sender: Hashable = None
    """Who takes turns with other senders in queues: its token's name or, without a token, its connection."""
    size_bytes = 0
    """Size of its request, as it was counted."""
    triton_status_codes = False
    """Whether it fails with Triton's status codes where ours differ."""

    def __init__(self, deadline_s: float | None, *, may_compute: bool = False) -> None:
        """Starts out unanswered.

        Args:
            deadline_s: `time.monotonic()` by which the caller wants the answer; None: it did not say.
            may_compute: whether the thread that brings the call may compute it, nothing else waiting for that thread.
        """
        self.deadline_s = deadline_s
        self.may_compute = may_compute

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

    def reply(self, message: bytes) -> None:
        """Answers OK with a serialized message. A caller that has left is no error."""
        if self.claim():
            try:
                self.send(message)
            finally:
                # First, so that a server that stops has told of every call.
                if self.record is not None:
                    self.record.answered(self)
                    # It knows the whole run's outputs, and the answer may wait long for its reader.
                    self.record = None
                if self.admission is not None:
                    self.admission.answered(self, replied=True)

    def fail(self, status: Status) -> None:
        """Answers with a status other than OK. A caller that has left is no error."""
        if self.claim():
            status = as_triton(status) if self.triton_status_codes else status
            if self.failure_counts is not None:
                self.failure_counts.add(self.method, status)
            try:
                self.send_status(status)
            finally:
                if self.watch is not None:
                    self.watch.failed(self, status)
                    self.record = None
                if self.admission is not None:
                    self.admission.answered(self)

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
