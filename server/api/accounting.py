"""Accounts for a server's calls: counts them, and reports them to the access log and traces."""

from collections.abc import Sequence

from .admission import Admission, FailureCounts
from .call import Call
from .call_observer import CallObserver
from .status import CallStatus, as_triton


class Accounting:
    """The listener of all calls.

    Args:
        admission: counts unanswered calls and their bytes.
        failure_counts: counts failed calls.
        observer: reports calls to the access log and traces; None: both are off.
        triton_status_codes: whether to use Triton's status codes where ours differ.
    """

    def __init__(
        self,
        admission: Admission,
        failure_counts: FailureCounts | None,
        observer: CallObserver | None,
        *,
        triton_status_codes: bool = False,
    ) -> None:
        self._admission = admission
        self._failure_counts = failure_counts
        self._observer = observer
        self._triton_status_codes = triton_status_codes

    def reserve(self, call: Call, size_bytes: int) -> None:
        self._admission.add(call, size_bytes)

    def replied(self, call: Call) -> None:
        # First, so a stopping server has reported every call.
        if self._observer is not None and call.record is not None:
            self._observer.succeeded(call, call.record)
        self._admission.answered(call, replied=True)

    def all_replied(self, calls: Sequence[Call]) -> None:
        self._admission.replied(calls)

    def failing(self, call: Call, status: CallStatus) -> CallStatus:
        status = as_triton(status) if self._triton_status_codes else status
        if self._failure_counts is not None:
            self._failure_counts.add(call.method, status)
        return status

    def failed(self, call: Call, status: CallStatus) -> None:
        if self._observer is not None:
            self._observer.failed(call, status)
        self._admission.answered(call)
