"""The seam between transports and the API: a method's name, the request's bytes, and a call to answer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .status import Status, as_triton

if TYPE_CHECKING:
    from .admission import Admission, FailureCounts


class Call:
    """One unary call. The first `reply` or `fail`, from whatever thread, answers it; later ones do nothing.

    A transport derives its own, and says there how an answer is sent and how it is heard that the caller has left.
    """

    method = ""
    """Its method's full name."""
    admission: "Admission | None" = None
    """Counts the call until it is answered."""
    failure_counts: "FailureCounts | None" = None
    """Counts it where it fails."""
    trailing: tuple[tuple[str, str], ...] = ()
    """What is told beside the answer, by key; set before `reply`."""
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

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Has `callback` called, from any thread, when the caller leaves before it was answered."""
        raise NotImplementedError

    def reply(self, message: bytes) -> None:
        """Answers OK with a serialized message. A caller that has left is no error."""
        if self.claim():
            try:
                self.send(message)
            finally:
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
                if self.admission is not None:
                    self.admission.answered(self)

    def claim(self) -> bool:
        """Returns whether nobody has answered the call before, who then has to: True once, on one thread."""
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Gives the transport the answer; called at most once, and never together with `send_status`."""
        raise NotImplementedError

    def send_status(self, status: Status) -> None:
        """Gives the transport a status other than OK."""
        raise NotImplementedError


Handler = Callable[[bytes, Call], None]
"""Handles one method: takes the serialized request, and answers the call now or later.

It may raise a RequestError instead of answering; it must not block.
"""
