"""The access log: a line for a call that was answered, but no more of them than somebody can read."""

import threading

from .calls import AnsweredCall
from .logs import Log

# So much time's worth of lines may come at once.
_BURST_NS = 1_000_000_000
_NEVER_NS = 2**63
# A server that answers these has trouble of its own.
_TROUBLES = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "DATA_LOSS"})
# What callers name is written down to this length.
_MAX_NAME = 128


class Allowance:
    """So many things a second, evenly, with a second's worth at once after a pause (the leaky bucket as a meter).

    Two threads that ask at once may both be let through; a lock would cost every call more than that.
    """

    def __init__(self, per_s: float) -> None:
        """Allows `per_s` a second; 0: nothing."""
        self._interval_ns = int(1e9 / per_s) if per_s else 0
        self._burst_ns = max(_BURST_NS - self._interval_ns, 0)
        self.next_ns = 0 if per_s else _NEVER_NS
        """When the next one is allowed, by `time.monotonic_ns()`."""

    def take(self, now_ns: int) -> bool:
        """Returns whether one is allowed now, and counts it."""
        if now_ns < self.next_ns:
            return False
        # Never further behind than a burst, however long nothing came.
        self.next_ns = max(self.next_ns, now_ns - self._burst_ns) + self._interval_ns
        return True


class AccessLog:
    """Writes lines of calls. May be called from any thread.

    Calls that went well and calls that failed have an allowance each, so that neither hides the other.
    """

    def __init__(self, log: Log, lines_per_s: float) -> None:
        """Starts out with full allowances.

        Args:
            log: where lines go.
            lines_per_s: most lines a second of calls that went well, and as many of others.
        """
        self._log = log
        self.successes = Allowance(lines_per_s)
        """For calls that go well; taken from when they come."""
        self._failures = Allowance(lines_per_s)
        self._lock = threading.Lock()
        self._failures_left_out = 0

    def wants_failure(self, now_ns: int) -> bool:
        """Returns whether a call that has just failed is to be written down; to be asked once a call."""
        with self._lock:
            is_wanted = self._failures.take(now_ns)
            self._failures_left_out += not is_wanted
        return is_wanted

    def write(self, call: AnsweredCall, trace_id: str) -> None:
        """Writes a call's line.

        Args:
            call: what is known of it. What it carried is not, so that no pixel and no token gets into the log.
            trace_id: of the trace that it belongs to, 32 hexadecimal digits; empty: none.
        """
        emit = self._log.warning if call.code in _TROUBLES else self._log.info
        fields = {**_fields(call), "trace_id": trace_id, **_durations(call)}
        if call.reason:
            fields |= {"reason": call.reason, "message": call.message, "left_out": self._take_left_out()}
        emit("request", **{name: value for name, value in fields.items() if value not in ("", None)})

    def _take_left_out(self) -> int | None:
        """Returns how many failed calls had no line since the last that had; None: none."""
        with self._lock:
            left_out, self._failures_left_out = self._failures_left_out, 0
        return left_out or None


def _fields(call: AnsweredCall) -> dict[str, object]:
    return {
        "method": call.method.rpartition("/")[2],
        "via": call.via,
        "code": call.code,
        "model": call.model[:_MAX_NAME],
        "version": call.version[:_MAX_NAME],
        "request_id": call.request_id[:_MAX_NAME],
        "token": call.token,
    }


def _durations(call: AnsweredCall) -> dict[str, object]:
    durations: dict[str, object] = {"duration_ms": _ms(call.ended_ns - call.started_ns)}
    batch = call.batch
    if batch is not None:
        durations["queue_ms"] = _ms(batch.started_ns - call.queued_ns)
        durations["compute_ms"] = _ms(batch.computed_ns - batch.started_ns)
        durations["batch_size"] = batch.rows
    return durations


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
