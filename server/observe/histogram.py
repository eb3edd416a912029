"""Counts by upper bound, as Prometheus has them."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Starts out empty, with these upper bounds, rising."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        """All values together."""

    def observe(self, value: float) -> None:
        """Adds a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Adds values."""
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Returns how many values are at most each bound, the last of which is +Inf."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))
