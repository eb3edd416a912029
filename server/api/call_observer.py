"""Reports calls to the access log and traces: decides at a call's start, and collects details until its answer."""

import time
from typing import TYPE_CHECKING

from ..failures import FailureLog
from ..observe.access_log import AccessLog, Allowance
from ..observe.calls import AnsweredCall, trace_parent
from .call import Call, Record, Subject
from .status import OK, CallStatus

if TYPE_CHECKING:
    from ..observe.traces import Tracing

# Balancers probe every few seconds; successful probes are not worth a line.
_PROBES = frozenset(
    (
        "/grpc.health.v1.Health/Check",
        *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")),
    )
)


class CallObserver:
    """Reports a server's calls. Thread-safe; never raises.

    A successful call that is not reported costs one clock reading.

    Args:
        access_log: receives calls, or None.
        tracing: receives calls, or None.
        log_failure: logs errors in here, which must not affect callers.
    """

    def __init__(
        self,
        access_log: AccessLog | None,
        tracing: "Tracing | None",
        log_failure: FailureLog,
    ) -> None:
        self._access_log = access_log
        self._lines = access_log.successes if access_log is not None else Allowance(0)
        self._tracing = tracing
        self._log_failure = log_failure

    def record(self, method: str, call: Call, now_ns: int) -> Record | None:
        """Returns a record for a call at `now_ns` by `time.monotonic_ns()`; None if a success will not be reported."""
        lines, tracing = self._lines, self._tracing
        # Runs for every call: the first check spares most of them the others.
        is_logged = now_ns >= lines.next_ns and method not in _PROBES and lines.take(now_ns)
        is_traced = tracing is not None and tracing.wants(call.metadata())
        return Record(is_logged=is_logged, is_traced=is_traced) if is_logged or is_traced else None

    def succeeded(self, call: Call, record: Record) -> None:
        """Reports a successful call with a record."""
        try:
            self._tell(call, OK, record, is_logged=record.is_logged)
        except Exception as error:  # noqa: BLE001  see the class
            self._log_failure(error)

    def failed(self, call: Call, status: CallStatus) -> None:
        """Reports a call with a status other than OK."""
        try:
            log, record = self._access_log, call.record
            is_logged = log is not None and log.wants_failure(time.monotonic_ns())
            if is_logged or (record is not None and record.is_traced):
                self._tell(call, status, record, is_logged=is_logged)
        except Exception as error:  # noqa: BLE001  see the class
            self._log_failure(error)

    def _tell(self, call: Call, status: CallStatus, record: Record | None, *, is_logged: bool) -> None:
        answered = _answered(call, status, record)
        trace_id = answered.parent.trace_id if answered.parent else ""
        if self._tracing is not None and record is not None and record.is_traced:
            trace_id = self._tracing.add(answered)
        if self._access_log is not None and is_logged:
            self._access_log.write(answered, trace_id)


def _answered(call: Call, status: CallStatus, record: Record | None) -> AnsweredCall:
    subject = call.subject() if callable(call.subject) else call.subject or Subject("", "")
    return AnsweredCall(
        method=call.method,
        via=call.via,
        code=status.code.name,
        code_number=status.code.value,
        reason=status.reason,
        message=status.message,
        model=subject.model,
        version=subject.version,
        request_id=subject.request_id,
        started_ns=call.started_ns,
        ended_ns=time.monotonic_ns(),
        queued_ns=record.queued_ns if record else 0,
        rows=record.rows if record else 0,
        batch=record.batch if record else None,
        parent=trace_parent(call.metadata()),
        token=call.principal.name if call.principal else "",
    )
