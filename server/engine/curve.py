"""How long a model takes by batch size, measured when it is loaded: what batch limits and refusals go by."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

# A size whose time an image is within this much of the best one's is as good: larger batches would only add latency.
_TOLERANCE = 1.04
# What a run costs beside the model: switches to the threads of the network and back, and a cache that both have swept
# (docs/adr/0006-engine.md).
_RUN_OVERHEAD_NS = 300_000
# So many sizes in a row that are no faster per row end the measuring; a single one may be the noise of a busy machine.
_PATIENCE = 2

Stop = Literal["", "no faster", "time", "memory"]
"""Why larger sizes were not measured: no faster per row, or the budget of time or memory is spent; empty: all were."""


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
    stop: Stop = ""
    """Why larger sizes were not measured."""

    @property
    def best_size(self) -> int:
        """The smallest size that serves about as many rows per second as any; 0 if nothing was measured."""
        per_row = self._per_row_ns()
        sizes = zip(self.sizes, per_row, strict=True)
        return next((size for size, each in sizes if each <= min(per_row) * _TOLERANCE), 0)

    @property
    def has_levelled_off(self) -> bool:
        """Whether the last sizes were no faster per row than a smaller one, so that larger ones promise nothing."""
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
        """Returns the time of a run of `rows` rows: that of the next larger size, or in proportion to the largest.

        None if nothing was measured.
        """
        if not self.sizes:
            return None
        index = bisect_left(self.sizes, rows)
        return self.times_ns[index] if index < len(self.sizes) else self.times_ns[-1] * rows // self.sizes[-1]

    def backlog_ns(self, rows: int, limit: int) -> int:
        """Returns the time of `rows` rows in runs of at most `limit`; 0 if nothing was measured."""
        full_ns = self.run_ns(limit)
        if full_ns is None:
            return 0
        full, rest = divmod(rows, limit)
        return full * full_ns + (self.run_ns(rest) or 0 if rest else 0)


UNMEASURED = LatencyCurve((), ())


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Returns 1, 2, 4, … up to `largest`, which is the last whatever it is."""
    return (*(1 << exponent for exponent in range((largest - 1).bit_length())), largest) if largest > 0 else ()
