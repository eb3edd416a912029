"""Decides which requests a model has no time for: those that would be late, and those that a standing queue sheds.

A queue that never empties makes every answer late, and no more of them. Two rules keep it short:
- A request is taken only if its run will end before its deadline, by the times measured at load and what runs take now.
- If the queue has been long for a tenth of a second, a request is refused that would wait for more than half of its
  time or, without a deadline, for longer than `shed_delay_ms`. A burst is shorter, and is computed whole (after CoDel,
  RFC 8289: a delay that stands tells an overload from a burst).
"""

from typing import Literal

from ..errors import Overloaded
from .curve import LatencyCurve

# A queue that is long for so long is no burst (CoDel's interval).
_INTERVAL_NS = 100_000_000
# Weight of the last run in the moving average of how long runs take.
_WEIGHT = 0.2
# Most that runs are expected to be slower than measured at load, whatever the last ones were: a machine that stood
# still for a moment must not refuse everything afterwards.
_SLOWEST = 8.0
# Rows of a run that are counted as its own, however large runs may be under an overload.
_LARGEST_RUN = 64

Refusal = Literal["", "late", "shed"]
"""Why a request is not taken: its run would end after its deadline, or the queue has been too long; empty: it is."""


_WHY = {
    "late": "{}: more waits than can be computed before this request's deadline; allow more time, or retry elsewhere",
    "shed": "{}: more is asked of it than it can compute, and too much waits; send less, or retry elsewhere",
}


def refused(model: str, refusal: Refusal) -> Overloaded:
    """Returns what a request for `model` is told for which there is no time."""
    # The same words each time: under an overload most of the work is saying no, and these are encoded once.
    return Overloaded(_WHY[refusal].format(model))


class Overload:
    """Foretells when a model version's requests are computed. Not thread-safe: the batcher's lock guards it."""

    def __init__(self, curve: LatencyCurve, instances: int, shed_delay_ns: int) -> None:
        """Creates one for a version that runs nothing yet.

        Args:
            curve: what a run takes, by its size; nothing is refused where it is empty.
            instances: how many runs there can be at a time.
            shed_delay_ns: how long a request may wait where the queue stands, unless a run takes longer; 0: for ever.
        """
        self.instances = instances
        self._shed_delay_ns = shed_delay_ns
        self.learn(curve, 1)
        # Time of the last runs, with all that is done around them, over the time measured at load.
        self._stretch = 1.0
        # When the runs in progress will end, by their tickets.
        self._ends_ns: dict[int, int] = {}
        # When the queue was last short.
        self._short_ns = 0
        # Until when it counts as standing, because something was shed.
        self._standing_until_ns = 0
        # How long a run may take meanwhile.
        self._run_ns = 0

    def learn(self, curve: LatencyCurve, limit: int) -> None:
        """Goes by a curve from now on.

        Args:
            curve: see above.
            limit: rows of a full run.
        """
        self.curve = curve
        self._limit = limit
        # Kept, because it is asked for every request.
        self._full_ns = curve.run_ns(limit) or 0

    def run_ns(self, rows: int) -> int:
        """Returns how long a run would take at present; 0: not known."""
        return int((self.curve.run_ns(rows) or 0) * self._stretch)

    def begin(self, ticket: int, rows: int, now_ns: int) -> None:
        """Takes note of a run."""
        self._ends_ns[ticket] = now_ns + self.run_ns(rows)

    def end(self, ticket: int, rows: int, took_ns: int) -> None:
        """Takes note of a run whose requests have been answered, and of how long that took from its start."""
        self._ends_ns.pop(ticket, None)
        measured_ns = self.curve.run_ns(rows)
        if measured_ns:
            found = min(max(took_ns / measured_ns, 1.0), _SLOWEST)
            self._stretch += (found - self._stretch) * _WEIGHT

    def delay_ns(self, rows: int, now_ns: int) -> int:
        """Returns nanoseconds from now until the runs in progress and `rows` rows that wait are computed."""
        delay_ns = 0
        if len(self._ends_ns) >= self.instances:
            delay_ns = max(min(self._ends_ns.values()) - now_ns, 0)
        if rows:
            delay_ns += int(rows * self._full_ns * self._stretch) // (self._limit * self.instances)
        return delay_ns

    def takes_all(self, waiting: int, rows: int, deadline_ns: int | None, now_ns: int) -> bool:
        """Returns whether requests can be taken without a look at each of them.

        Args:
            waiting: rows that wait already.
            rows: rows of the requests together.
            deadline_ns: the earliest of their deadlines; None: they have none.
            now_ns: the time.
        """
        delay_ns, most_ns = self.delay_ns(waiting + rows, now_ns), self._short_enough_ns()
        if deadline_ns is not None:
            # A run that is not full takes less than a full one, but more than its share of that.
            left_ns = deadline_ns - now_ns
            most_ns = min(most_ns, left_ns // 2, left_ns - int(self._full_ns * self._stretch))
        if delay_ns > most_ns:
            return False
        self._short_ns = now_ns
        return True

    def judge(
        self, waiting: int, rows: int, deadline_ns: int | None, now_ns: int, queued: int | None = None
    ) -> Refusal:
        """Returns whether a request is taken.

        Args:
            waiting: rows that run before it.
            rows: its own.
            deadline_ns: when its caller gives up; None: never.
            now_ns: the time.
            queued: rows that wait in all, of which others' may run after it; None: `waiting`.
        """
        wait_ns = self.delay_ns(waiting, now_ns)
        if deadline_ns is None:
            most_ns = self._short_enough_ns()
        else:
            left_ns = deadline_ns - now_ns
            if left_ns <= 0:
                # It has expired, which the queue tells its caller.
                return ""
            # One that finds nothing before it can only be late by itself; so runs go on telling how long they take.
            own_ns = (self.run_ns(rows) if wait_ns else self.curve.run_ns(rows)) or 0
            if wait_ns + own_ns > left_ns:
                return "late"
            # Estimates are off by some runs; the other half keeps that from making all that wait late.
            most_ns = max(left_ns // 2, int(self._full_ns * self._stretch))
        # What the next run takes does not stand: the run in progress may be long, but it cannot be interrupted.
        if wait_ns <= most_ns or waiting < self.limit(_LARGEST_RUN, now_ns):
            # One sender's short wait does not make the others' queue short.
            if queued is None or queued < self._limit or self.delay_ns(queued, now_ns) <= most_ns:
                self._short_ns = now_ns
            return ""
        if now_ns < self._standing_until_ns or now_ns - self._short_ns > _INTERVAL_NS:
            self._standing_until_ns = now_ns + _INTERVAL_NS
            self._run_ns = most_ns // 2
            return "shed"
        return ""

    def limit(self, most: int, now_ns: int) -> int:
        """Returns how many rows are to be merged, `most` at the most.

        Each run costs something beside the model, and under an overload that is what there is least of.
        """
        if now_ns >= self._standing_until_ns or not self._full_ns:
            return self._limit
        rows = int(self._run_ns * self._limit / (self._full_ns * self._stretch))
        return max(self._limit, min(rows, most))

    def _short_enough_ns(self) -> int:
        if not self._shed_delay_ns:
            return 1 << 62
        # A queue of less than a run would leave the model idle, or its runs half empty.
        return max(self._shed_delay_ns, int(self._full_ns * self._stretch))
