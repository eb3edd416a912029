"""How long a model takes by batch size, measured when it is loaded: what batch limits and refusals go by."""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A size whose time an image is within this much of the best one's is as good: larger batches would only add latency.
_TOLERANCE = 1.04
# What a run costs beside the model: two switches between threads, and a cache that the model has swept
# (benchmarks/README.md).
_RUN_OVERHEAD_NS = 100_000
# Runs of each size, of which the fastest counts: whatever disturbs a run only makes it longer.
_RUNS = 5
# Measuring is for small models; a large one is warmed, and timed by that alone.
_BUDGET_S = 1.0


@dataclass(frozen=True)
class LatencyCurve:
    """Run times by batch size."""

    sizes: tuple[int, ...]
    """Batch sizes that were measured, in rows, rising."""
    times_ns: tuple[int, ...]
    """Nanoseconds that a run of each size took: the fastest that was timed."""
    runs: tuple[int, ...] = ()
    """How many runs of each size were timed; empty: not known."""
    spent_ns: tuple[int, ...] = ()
    """Nanoseconds that these took together; empty: not known."""

    @property
    def best_size(self) -> int:
        """The smallest size that serves about as many rows a second as any; 0 where nothing was measured."""
        times = zip(self.sizes, self.times_ns, strict=True)
        per_row = [(time_ns + _RUN_OVERHEAD_NS) / size for size, time_ns in times]
        sizes = zip(self.sizes, per_row, strict=True)
        return next((size for size, each in sizes if each <= min(per_row) * _TOLERANCE), 0)

    def run_ns(self, rows: int) -> int | None:
        """Returns what a run of `rows` rows takes, by the next larger size; None: not known."""
        index = bisect_left(self.sizes, rows)
        return self.times_ns[index] if index < len(self.sizes) else None

    def backlog_ns(self, rows: int, limit: int) -> int:
        """Returns what it takes to compute `rows` rows in runs of at most `limit`; 0 where nothing was measured."""
        full_ns = self.run_ns(limit)
        if full_ns is None:
            return 0
        full, rest = divmod(rows, limit)
        return full * full_ns + (self.run_ns(rest) or 0 if rest else 0)


UNMEASURED = LatencyCurve((), ())


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Returns 1, 2, 4, … up to `largest`, which is the last whatever it is."""
    return (*(1 << exponent for exponent in range((largest - 1).bit_length())), largest) if largest > 0 else ()


def measure(
    run: Callable[[int], object],
    sizes: Sequence[int],
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    budget_s: float = _BUDGET_S,
) -> LatencyCurve:
    """Runs every size at least twice, so that it is warm, and times it.

    Args:
        run: computes a batch of so many rows.
        sizes: batch sizes, rising.
        clock_ns: the time.
        budget_s: seconds after which a size is run no more than twice.

    Raises:
        Exception: whatever `run` raises.
    """
    end_ns = clock_ns() + int(budget_s * 1e9)
    times_ns: list[list[int]] = []
    for size in sizes:
        run(size)
        timed_ns = [_time(run, size, clock_ns)]
        while len(timed_ns) < _RUNS and clock_ns() < end_ns:
            timed_ns.append(_time(run, size, clock_ns))
        times_ns.append(timed_ns)
    return LatencyCurve(
        tuple(sizes), tuple(map(min, times_ns)), runs=tuple(map(len, times_ns)), spent_ns=tuple(map(sum, times_ns))
    )


def _time(run: Callable[[int], object], size: int, clock_ns: Callable[[], int]) -> int:
    start_ns = clock_ns()
    run(size)
    return clock_ns() - start_ns
