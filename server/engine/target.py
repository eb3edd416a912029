"""Keeps a latency target: adjusts the batch limit and the queue delay, and refuses requests that would miss it.

- Admission: a request is accepted if its forecast end is at least a margin before the target.
- The margin is what keeps the target although forecasts err: it grows while more than one in a hundred accepted
  requests takes longer than the target, and shrinks otherwise. At a steady load it settles where one in a hundred does.
- The batch limit is the size that computes most rows per second among those that leave time to be accepted.
- After a stall, requests that are late give way to others that wait.
- A queue delay of config.pbtxt is shortened where the target leaves no time for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .curve import LatencyCurve, powers_of_two

# Share of accepted requests that may take longer.
_MISSES = 0.01
# Change of the margin, as a share of the target, if every request of a run was late.
_STEP = 0.05
# Bounds of the margin, as shares of the target.
_FIRST, _LEAST, _MOST = 0.1, 0.02, 0.6
# Accepted requests give way to others if a stall makes them later than this, as a share of the target. Forecasts err
# by less, and without a stall no request should wait in vain.
_TOO_LATE = 0.1
# A batch limit this close to the best rate is as good.
_AS_FAST = 0.99
# A refusal counts as load above the capacity for this time; runs are larger meanwhile.
_PRESSED_NS = 100_000_000


@dataclass(frozen=True)
class TargetState:
    """The state of a version's latency target, for metrics."""

    target_s: float
    """The target in seconds."""
    margin_s: float
    """How long before the target accepted requests must be expected to end, in seconds."""
    queue_delay_s: float
    """Maximum wait of the oldest request for others, in seconds."""
    refused: int
    """Requests refused because they would have missed the target."""


class LatencyTarget:
    """The target of one model version. Not thread-safe: the scheduler's lock guards it.

    Args:
        target_ns: what 99 of 100 accepted requests may take, from arrival to answer.
    """

    def __init__(self, target_ns: int) -> None:
        self._target_ns = target_ns
        self._margin_ns = target_ns * _FIRST
        self._pressed_until_ns = 0
        self._refused = 0

    @property
    def room_ns(self) -> int:
        """Time from arrival to the expected end of an accepted request, at most."""
        return int(self._target_ns - self._margin_ns)

    def accepts(self, waited_ns: int, forecast_ns: int) -> bool:
        """Returns whether a request can be accepted that has waited and is expected to end in `forecast_ns`."""
        return waited_ns + forecast_ns <= self.room_ns

    def accepts_alone(self, waited_ns: int, run_ns: int) -> bool:
        """Returns the same for one that has nothing before it, by its run time at load.

        Without the margin and recent slowdowns: accepting it keeps both up to date.
        """
        return waited_ns + run_ns <= self._target_ns

    def refuse(self, now_ns: int) -> None:
        """Records that a request was refused."""
        self._refused += 1
        self._pressed_until_ns = now_ns + _PRESSED_NS

    def given_up_ns(self, done_ns: int) -> int:
        """Returns the arrival before which a request is not worth a run that ends at `done_ns`."""
        return done_ns - int(self._target_ns * (1 + _TOO_LATE))

    def is_pressed(self, now_ns: int) -> bool:
        """Returns whether more is asked than can be computed."""
        return now_ns < self._pressed_until_ns

    def answered(self, latencies_ns: Iterable[int]) -> None:
        """Adjusts the margin by a run's accepted requests, with their latencies."""
        count = late = 0
        for latency_ns in latencies_ns:
            count += 1
            late += latency_ns > self._target_ns
        if count:
            change_ns = (late / count - _MISSES) * _STEP * self._target_ns
            bounds = _LEAST * self._target_ns, _MOST * self._target_ns
            self._margin_ns = min(max(self._margin_ns + change_ns, bounds[0]), bounds[1])

    def best_limit(self, curve: LatencyCurve, most: int, stretch: float) -> int:
        """Returns the batch limit with most rows per second of runs that leave time to be accepted; 1 if none does.

        Of what arrives during a run, only requests of its last part can still be answered in time by the next one:
        that part is the target's rest after a run. If it is shorter than a run, the other rows are lost.
        """
        # Not by the margin: smaller runs compute less, more would be late, and the margin would grow again.
        best, best_rate, room_ns = 1, 0.0, self._target_ns * (1 - _FIRST)
        for size in powers_of_two(most):
            run_ns = (curve.run_ns(size) or 0) * stretch
            rate = size / run_ns * min(1.0, room_ns / run_ns - 1.0) if run_ns else 0.0
            # A large run that is as fast saves what each run costs beside the model.
            if rate and rate >= best_rate * _AS_FAST:
                best, best_rate = size, max(rate, best_rate)
        return best

    def delay_ns(self, asked_ns: int, full_ns: int) -> int:
        """Returns the queue delay: as asked, unless a run in progress and the own one leave less."""
        return max(0, min(asked_ns, self.room_ns - 2 * full_ns))

    def state(self, delay_ns: int) -> TargetState:
        """Returns the state, with the queue delay in use."""
        return TargetState(self._target_ns / 1e9, self._margin_ns / 1e9, delay_ns / 1e9, self._refused)
