"""Decides which requests to refuse: late ones, those shed by a standing queue, and those that miss a latency target.

A queue that never empties makes every answer late, and does not raise throughput. Two rules keep it short, and a third
(`target`) if the model has a latency target:
- A request is accepted only if its run will end before its deadline, by the times at load and the last runs' ratio to
  them.
- If everything waited too long for a request in the last tenth of a second, it is refused: for more than half of its
  time or, without a deadline, longer than `shed_delay_ms`. A burst is shorter, and is computed completely (after CoDel,
  RFC 8289: a standing delay distinguishes overload from a burst).
"""

from collections.abc import Sequence
from typing import Literal

from ..errors import Overloaded
from .curve import LatencyCurve
from .request import Request
from .target import LatencyTarget

# A queue that is long for this time is not a burst (CoDel's interval).
_INTERVAL_NS = 100_000_000
_NEVER_NS = 1 << 62
# Weight of the last run in the moving average of run times.
_WEIGHT = 0.2
# Bounds of the expected run times relative to those at load. After a short stall of the machine, not everything may be
# refused; and a machine that was busy at load is soon faster.
_FASTEST, _SLOWEST = 1 / 8, 8.0
# Rows that count as a run's own, however large runs become under overload.
_LARGEST_RUN = 64

Refusal = Literal["", "late", "shed", "slow"]
"""Why a request is refused: its run would end after its deadline, the queue has been too long, or it would miss the
latency target; empty: accepted."""


_WHY = {
    "late": "{}: more waits than can be computed before this request's deadline; allow more time, or retry elsewhere",
    "shed": "{}: more is asked of it than it can compute, and too much waits; send less, or retry elsewhere",
    "slow": "{}: it would take longer than this model's latency target; send less or smaller, or retry elsewhere",
}


def refused(model: str, refusal: Refusal) -> Overloaded:
    """Returns the error of a refused request for `model`."""
    # The same text each time: under overload most of the work is refusing, and this is encoded once.
    return Overloaded(_WHY[refusal].format(model))


class LeastDelay:
    """The shortest delay of the whole queue that an accepted request found, in this tenth of a second and the last.

    Not when the queue was last short: what is short for a request without a deadline is too long for others.
    """

    __slots__ = ("_interval", "_least_ns", "_previous_ns")

    def __init__(self) -> None:
        # The number of an interval, the shortest delay in it, and in the one before.
        self._interval = 0
        self._least_ns = self._previous_ns = _NEVER_NS

    def add(self, delay_ns: int, now_ns: int) -> None:
        """Records a delay."""
        interval = now_ns // _INTERVAL_NS
        if interval != self._interval:
            self._previous_ns = self._least_ns if interval == self._interval + 1 else _NEVER_NS
            self._interval, self._least_ns = interval, delay_ns
        elif delay_ns < self._least_ns:
            self._least_ns = delay_ns

    def at(self, now_ns: int) -> int:
        """Returns the shortest delay; longer than any if no request was accepted."""
        ago = now_ns // _INTERVAL_NS - self._interval
        if ago == 0:
            return min(self._least_ns, self._previous_ns)
        return self._least_ns if ago == 1 else _NEVER_NS


class Overload:
    """Predicts when a model version's requests will be computed. Not thread-safe: the batcher's lock guards it."""

    def __init__(
        self, curve: LatencyCurve, instances: int, shed_delay_ns: int, target: LatencyTarget | None = None
    ) -> None:
        """Creates one for an idle version.

        Args:
            curve: run times by size; if empty, nothing is refused.
            instances: maximum number of concurrent runs.
            shed_delay_ns: maximum wait in a standing queue, unless a run takes longer; 0: no limit.
            target: the latency to keep; None: none.
        """
        self.target = target
        self.instances = instances
        self._shed_delay_ns = shed_delay_ns
        self.learn(curve, 1)
        # Ratio of the last runs' time, including overhead, to the time at load.
        self._stretch = 1.0
        # Expected end of running runs, by ticket.
        self._ends_ns: dict[int, int] = {}
        self._least = LeastDelay()
        # Until when it counts as standing because of shedding.
        self._standing_until_ns = 0
        # Maximum duration of a run meanwhile.
        self._run_ns = 0

    def learn(self, curve: LatencyCurve, limit: int, most: int = 0) -> None:
        """Uses a curve from now on.

        Args:
            curve: see above.
            limit: rows of a full run.
            most: rows of the largest run that leaves time for the target; 0: `limit`.
        """
        self.curve = curve
        self._limit = limit
        self._most = max(limit, most)
        # Kept, because they are asked for every request.
        self._full_ns = curve.run_ns(limit) or 0
        self._most_ns = curve.run_ns(self._most) or 0

    def run_ns(self, rows: int) -> int:
        """Returns the expected duration of a run now; 0 if unknown."""
        return int((self.curve.run_ns(rows) or 0) * self._stretch)

    def begin(self, ticket: int, rows: int, now_ns: int) -> None:
        """Records the start of a run."""
        self._ends_ns[ticket] = now_ns + self.run_ns(rows)

    def end(self, ticket: int, rows: int, took_ns: int) -> None:
        """Records the end of a run, when its requests are answered, with its total duration."""
        self._ends_ns.pop(ticket, None)
        least_ns, most_ns = self.curve.bounds_ns(rows)
        if least_ns:
            # Between two measured sizes, the run shows only a range of ratios.
            found = min(max(self._stretch, took_ns / most_ns), took_ns / least_ns)
            self._stretch += (min(max(found, _FASTEST), _SLOWEST) - self._stretch) * _WEIGHT

    def delay_ns(self, rows: int, now_ns: int) -> int:
        """Returns nanoseconds until the current runs and `rows` waiting rows are computed."""
        delay_ns = 0
        if len(self._ends_ns) >= self.instances:
            delay_ns = max(min(self._ends_ns.values()) - now_ns, 0)
        if rows:
            delay_ns += int(rows * self._full_ns * self._stretch) // (self._limit * self.instances)
        return delay_ns

    def forecast_ns(self, rows: int, now_ns: int) -> int:
        """Returns nanoseconds until the last of `rows` rows is expected to be answered, in full runs."""
        delay_ns = max(min(self._ends_ns.values()) - now_ns, 0) if len(self._ends_ns) >= self.instances else 0
        is_pressed = self.target is not None and self.target.is_pressed(now_ns)
        limit, run_ns = (self._most, self._most_ns) if is_pressed else (self._limit, self._full_ns)
        rounds = -(-rows // (limit * self.instances))
        return delay_ns + int(rounds * run_ns * self._stretch)

    def best_limit(self, curve: LatencyCurve, most: int) -> int:
        """Returns the batch limit that serves the target best, up to `most`; `most` without a target or a curve."""
        if self.target is None or not curve.sizes:
            return most
        return self.target.best_limit(curve, most, self._stretch)

    def takes_group(self, requests: Sequence[Request], waiting: int, now_ns: int) -> bool:
        """Returns whether all requests can be accepted behind `waiting` rows without examining each of them."""
        rows, first_ns = 0, None
        for request in requests:
            rows += request.rows
            deadline_ns = request.deadline_ns
            if deadline_ns is not None and (first_ns is None or deadline_ns < first_ns):
                first_ns = deadline_ns
        waited_ns = 0 if self.target is None else max((request.age_ns(now_ns) for request in requests), default=0)
        return self.takes_all(waiting, rows, first_ns, now_ns, waited_ns)

    def takes_all(self, waiting: int, rows: int, deadline_ns: int | None, now_ns: int, waited_ns: int = 0) -> bool:
        """Returns whether requests can be accepted without examining each of them.

        Args:
            waiting: rows already waiting.
            rows: total rows of the requests.
            deadline_ns: their earliest deadline, or None.
            now_ns: the time.
            waited_ns: the longest time that they have waited.
        """
        if self.target is not None and not self.target.accepts(waited_ns, self.forecast_ns(waiting + rows, now_ns)):
            return False
        delay_ns, most_ns = self.delay_ns(waiting + rows, now_ns), self._short_enough_ns()
        if deadline_ns is not None:
            # A partial run takes less than a full one, but more than its share of it.
            left_ns = deadline_ns - now_ns
            most_ns = min(most_ns, left_ns // 2, left_ns - int(self._full_ns * self._stretch))
        if delay_ns > most_ns:
            return False
        self._least.add(delay_ns, now_ns)
        return True

    def judge(
        self,
        waiting: int,
        rows: int,
        deadline_ns: int | None,
        now_ns: int,
        queued: int | None = None,
        waited_ns: int = 0,
    ) -> Refusal:
        """Returns whether a request is accepted.

        Args:
            waiting: rows that run before it.
            rows: its own rows.
            deadline_ns: its deadline, or None.
            now_ns: the time.
            queued: all waiting rows, including those that run after it; None: `waiting`.
            waited_ns: how long it has waited.
        """
        if self.target is not None and not self._keeps_target(self.target, waiting, rows, now_ns, waited_ns):
            self.target.refuse(now_ns)
            return "slow"
        wait_ns = self.delay_ns(waiting, now_ns)
        if deadline_ns is None:
            most_ns = self._short_enough_ns()
        else:
            left_ns = deadline_ns - now_ns
            if left_ns <= 0:
                # Already expired; the queue answers its caller.
                return ""
            # With nothing before it, only its own run can make it late; accepting it keeps run times up to date.
            own_ns = self.run_ns(rows)
            if not wait_ns:
                own_ns = min(own_ns, self.curve.run_ns(rows) or 0)
            if wait_ns + own_ns > left_ns:
                return "late"
            # Estimates are off by some runs; the other half absorbs that.
            most_ns = max(left_ns // 2, int(self._full_ns * self._stretch))
        # Requests of the next run are not a standing queue: the current run may be long, but cannot be interrupted.
        is_short = wait_ns <= most_ns or waiting < self.limit(_LARGEST_RUN, now_ns)
        if not is_short and (now_ns < self._standing_until_ns or self._least.at(now_ns) > most_ns):
            self._standing_until_ns = now_ns + _INTERVAL_NS
            self._run_ns = most_ns // 2
            return "shed"
        if not is_short and deadline_ns is not None and wait_ns + most_ns // 2 > deadline_ns - now_ns:
            # If this is no burst, runs will grow to this duration.
            return "late"
        # One sender's short wait does not mean that the others' queue is short.
        rows = waiting if queued is None else queued
        self._least.add(self.delay_ns(rows, now_ns) if rows >= self._limit else 0, now_ns)
        return ""

    def _keeps_target(self, target: LatencyTarget, waiting: int, rows: int, now_ns: int, waited_ns: int) -> bool:
        if not waiting and len(self._ends_ns) < self.instances:
            return target.accepts_alone(waited_ns, self.curve.run_ns(rows) or 0)
        return target.accepts(waited_ns, self.forecast_ns(waiting + rows, now_ns))

    def limit(self, most: int, now_ns: int) -> int:
        """Returns how many rows to merge, up to `most`.

        Each run has an overhead beside the model, which matters most under overload.
        """
        if self.target is not None:
            most = min(self._most, most)
            if self.target.is_pressed(now_ns):
                return most
        if now_ns >= self._standing_until_ns or not self._full_ns:
            return self._limit
        rows = int(self._run_ns * self._limit / (self._full_ns * self._stretch))
        return max(self._limit, min(rows, most))

    def _short_enough_ns(self) -> int:
        if not self._shed_delay_ns:
            return _NEVER_NS
        # A queue shorter than a run would leave the model idle or its runs half empty.
        return max(self._shed_delay_ns, int(self._full_ns * self._stretch))
