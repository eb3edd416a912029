"""The access log: one line per answered call, limited to a readable rate."""

import threading

from .calls import AnsweredCall
from .logs import Log

# A burst may hold as many lines as this much time allows.
_BURST_NS = 1_000_000_000
_NEVER_NS = 2**63
# These codes are the server's fault.
_TROUBLES = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "DATA_LOSS"})
# Names from callers are cut to this length.
_MAX_NAME = 128


class Allowance:
    """Allows a number of events per second, evenly, with a burst of one second's worth (a leaky bucket as a meter).

    Two threads that ask at the same time may both be allowed; a lock would cost every call more.
    """

    def __init__(self, per_s: float) -> None:
        """Allows `per_s` events per second; 0: none."""
        self._interval_ns = int(1e9 / per_s) if per_s else 0
        self._burst_ns = max(_BURST_NS - self._interval_ns, 0)
        self.next_ns = 0 if per_s else _NEVER_NS
        """When the next event is allowed, by `time.monotonic_ns()`."""

    def take(self, now_ns: int) -> bool:
        """Returns whether an event is allowed now, and counts it if so."""
        if now_ns < self.next_ns:
            return False
        # A long pause earns no more than one burst.
        self.next_ns = max(self.next_ns, now_ns - self._burst_ns) + self._interval_ns
        return True


class AccessLog:
    """Writes one line per call. Thread-safe.

    Successful and failed calls have separate allowances, so neither hides the other.

    Args:
        log: where lines go.
        lines_per_s: maximum lines per second for successful calls, and as many for failed ones.
    """

    def __init__(self, log: Log, lines_per_s: float) -> None:
        self._log = log
        self.successes = Allowance(lines_per_s)
        """The allowance of successful calls, taken from on arrival."""
        self._failures = Allowance(lines_per_s)
        self._lock = threading.Lock()
        self._failures_left_out = 0

    def wants_failure(self, now_ns: int) -> bool:
        """Returns whether to log a failed call. Ask once per call."""
        with self._lock:
            is_wanted = self._failures.take(now_ns)
            self._failures_left_out += not is_wanted
        return is_wanted

    def write(self, call: AnsweredCall, trace_id: str) -> None:
        """Writes a call's line.

        Args:
            call: describes the call without its content, so no pixel or token gets into the log.
            trace_id: its trace, 32 hexadecimal digits; empty if none.
        """
        emit = self._log.warning if call.code in _TROUBLES else self._log.info
        fields = {**_fields(call), "trace_id": trace_id, **_durations(call)}
        if call.reason:
            fields |= {"reason": call.reason, "message": call.message, "left_out": self._take_left_out()}
        emit("request", **{name: value for name, value in fields.items() if value not in ("", None)})

    def _take_left_out(self) -> int | None:
        """Returns how many failed calls were left out since the last logged one, or None."""
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
        durations["rows"] = call.rows
        durations["queue_ms"] = _ms(batch.started_ns - call.queued_ns)
        durations["compute_ms"] = _ms(batch.computed_ns - batch.started_ns)
        durations["batch_size"] = batch.rows
    return durations


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
