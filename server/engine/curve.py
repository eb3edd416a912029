"""A model's run times by batch size, measured at load, for batch limits and refusals."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

# A size whose time per image is within this ratio of the best is as good: larger batches would only add latency.
_TOLERANCE = 1.04
# A run's cost beside the model: two thread switches, and a cache that the model has evicted (benchmarks/README.md).
_RUN_OVERHEAD_NS = 100_000
# This many sizes in a row that are no faster per row end the measuring; a single one may be noise.
_PATIENCE = 2

Stop = Literal["", "no faster", "time", "memory"]
"""Why larger sizes were not measured: no faster per row, or the budget of time or memory is spent; empty: all were."""


@dataclass(frozen=True)
class LatencyCurve:
    """Run times by batch size."""

    sizes: tuple[int, ...]
    """Measured batch sizes, in rows, ascending."""
    times_ns: tuple[int, ...]
    """The fastest run of each size, in nanoseconds."""
    runs: tuple[int, ...] = ()
    """Number of timed runs of each size; empty if unknown."""
    spent_ns: tuple[int, ...] = ()
    """Total time of these runs, in nanoseconds; empty if unknown."""
    stop: Stop = ""
    """Why larger sizes were not measured."""

    @property
    def best_size(self) -> int:
        """The smallest size with about the best throughput; 0 if nothing was measured."""
        per_row = self._per_row_ns()
        sizes = zip(self.sizes, per_row, strict=True)
        return next((size for size, each in sizes if each <= min(per_row) * _TOLERANCE), 0)

    @property
    def has_levelled_off(self) -> bool:
        """Whether the last sizes were no faster per row than a smaller one, so larger ones are not worth measuring."""
        lowest_ns, slower = float("inf"), 0
        for each in self._per_row_ns():
            if each * _TOLERANCE <= lowest_ns:
                lowest_ns, slower = each, 0
            else:
                slower += 1
        return slower >= _PATIENCE

    def _per_row_ns(self) -> list[float]:
        times = zip(self.sizes, self.times_ns, strict=True)
        return [(time_ns + _RUN_OVERHEAD_NS) / size for size, time_ns in times]

    def run_ns(self, rows: int) -> int | None:
        """Returns the time of a run of `rows` rows: that of the next larger size, or extrapolated from the largest.

        None if nothing was measured.
        """
        if not self.sizes:
            return None
        index = bisect_left(self.sizes, rows)
        return self.times_ns[index] if index < len(self.sizes) else self.times_ns[-1] * rows // self.sizes[-1]

    def bounds_ns(self, rows: int) -> tuple[int, int]:
        """Returns the least and the most that a run of `rows` rows takes: the times of the next measured sizes.

        Both are the same for a measured size and beyond the largest; 0 if nothing was measured.
        """
        most_ns = self.run_ns(rows) or 0
        if rows in self.sizes or not self.sizes or not self.sizes[0] < rows < self.sizes[-1]:
            return most_ns, most_ns
        return min(self.times_ns[bisect_left(self.sizes, rows) - 1], most_ns), most_ns

    def backlog_ns(self, rows: int, limit: int) -> int:
        """Returns the time of `rows` rows in runs of at most `limit`; 0 if nothing was measured."""
        full_ns = self.run_ns(limit)
        if full_ns is None:
            return 0
        full, rest = divmod(rows, limit)
        return full * full_ns + (self.run_ns(rest) or 0 if rest else 0)


UNMEASURED = LatencyCurve((), ())


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Returns 1, 2, 4, … up to and including `largest`."""
    return (*(1 << exponent for exponent in range((largest - 1).bit_length())), largest) if largest > 0 else ()
