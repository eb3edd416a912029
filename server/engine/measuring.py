"""Times a model by batch size, from small to large, while larger batches are faster per row."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .curve import LatencyCurve, Stop
from .memory import resident_bytes

MIB = 1024 * 1024
# Timed runs of each size; the fastest counts, because disturbances only make a run longer.
_RUNS = 5
# Long runs are steadier: three are enough once they have taken this long together.
_ENOUGH, _ENOUGH_NS = 3, 20_000_000
# Each size is run at least twice: the first run allocates.
_LEAST_RUNS = 2


@dataclass(frozen=True)
class WarmupBudget:
    """Limits of warming up a version. Its smallest batch size always runs once."""

    seconds: float = 0.5
    """Time for running and timing its batch sizes."""
    memory_bytes: int = 256 * MIB
    """Maximum growth of the process meanwhile."""


def measure(
    run: Callable[[int], object],
    sizes: Sequence[int],
    budget: WarmupBudget,
    *,
    every_size: bool = False,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    resident: Callable[[], int] = resident_bytes,
) -> LatencyCurve:
    """Runs and times sizes until larger ones are no faster per row, or until the budget is spent.

    Args:
        run: computes a batch of a number of rows.
        sizes: batch sizes, ascending.
        budget: time and memory. A size expected to exceed either is not started.
        every_size: whether all sizes are run; the time budget then limits the runs of each.
        clock_ns: the time.
        resident: returns the process's memory in bytes; 0 if unknown, so only time is limited.

    Raises:
        Exception: raised by `run`.
    """
    measuring = _Measuring(run, budget, clock_ns, resident)
    stop: Stop = ""
    for size in sizes:
        if measuring.has_begun and not every_size:
            stop = measuring.why_stop(size)
        if stop:
            break
        measuring.measure(size)
    return measuring.curve(stop)


class _Measuring:
    """The sizes measured so far, and the rest of the budget."""

    def __init__(
        self,
        run: Callable[[int], object],
        budget: WarmupBudget,
        clock_ns: Callable[[], int],
        resident: Callable[[], int],
    ) -> None:
        self._run, self._clock_ns, self._resident = run, clock_ns, resident
        self._end_ns = clock_ns() + int(budget.seconds * 1e9)
        self._end_bytes = resident() + budget.memory_bytes
        self._grown_bytes = 0
        self._sizes: list[int] = []
        self._times_ns: list[list[int]] = []

    @property
    def has_begun(self) -> bool:
        return bool(self._sizes)

    def measure(self, size: int) -> None:
        before_bytes = self._resident()
        first_ns = self._time(size)
        timed_ns: list[int] = []
        # For such a model, a first run that exceeds the budget is measurement enough.
        while self._needs_more(timed_ns) and self._clock_ns() + min(timed_ns, default=first_ns) <= self._end_ns:
            timed_ns.append(self._time(size))
        self._sizes.append(size)
        self._times_ns.append(timed_ns or [first_ns])
        self._grown_bytes = self._resident() - before_bytes

    def _needs_more(self, timed_ns: Sequence[int]) -> bool:
        count = len(timed_ns)
        return count < _ENOUGH or (count < _RUNS and sum(timed_ns) < _ENOUGH_NS)

    def why_stop(self, size: int) -> Stop:
        """Returns why not to measure the next size, or empty."""
        if self.curve("").has_levelled_off:
            return "no faster"
        # Time and memory of a run grow no faster than its rows.
        times = size / self._sizes[-1]
        if self._clock_ns() + _LEAST_RUNS * times * min(self._times_ns[-1]) > self._end_ns:
            return "time"
        if self._resident() + times * self._grown_bytes > self._end_bytes:
            return "memory"
        return ""

    def curve(self, stop: Stop) -> LatencyCurve:
        return LatencyCurve(
            tuple(self._sizes),
            tuple(map(min, self._times_ns)),
            runs=tuple(map(len, self._times_ns)),
            spent_ns=tuple(map(sum, self._times_ns)),
            stop=stop,
        )

    def _time(self, size: int) -> int:
        start_ns = self._clock_ns()
        self._run(size)
        return self._clock_ns() - start_ns
