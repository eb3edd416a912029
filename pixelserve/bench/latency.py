"""Latencies in constant memory: a histogram whose buckets are a thousandth wide."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Values are exact to 0.1 %, from a microsecond to more than an hour; others count as the nearest end.
_GROWTH = 1.001
_LEAST_S = 1e-6
_BUCKETS = 22_100
# Folding this many takes a tenth of a millisecond, short enough between two requests.
_CHUNK = 4096


class Latencies:
    """Counts latencies in seconds. Mean, minimum and maximum are exact, percentiles to 0.1 %. One thread at a time."""

    def __init__(self) -> None:
        """Starts empty."""
        self._chunk: list[float] = []
        self._counts: npt.NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)
        self._sum_s = 0.0
        self._min_s = float("inf")
        self._max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Counts one latency."""
        self._chunk.append(latency_s)
        if len(self._chunk) >= _CHUNK:
            self._fold()

    def _fold(self) -> None:
        if not self._chunk:
            return
        values = np.array(self._chunk)
        self._chunk.clear()
        self._sum_s += float(values.sum())
        self._min_s = min(self._min_s, float(values.min()))
        self._max_s = max(self._max_s, float(values.max()))
        buckets = np.ceil(np.log(np.maximum(values, _LEAST_S) / _LEAST_S) / np.log(_GROWTH)).astype(np.int64)
        self._counts += np.bincount(np.minimum(buckets, _BUCKETS - 1), minlength=_BUCKETS)

    @property
    def count(self) -> int:
        """Number of values."""
        self._fold()
        return int(self._counts.sum())

    @property
    def mean_s(self) -> float:
        """The mean in seconds; 0 without values."""
        return self._sum_s / self.count if self.count else 0.0

    @property
    def max_s(self) -> float:
        """The maximum in seconds; 0 without values."""
        self._fold()
        return self._max_s

    def percentile_s(self, percent: float, *, of: int | None = None) -> float:
        """Returns a percentile in seconds.

        Args:
            percent: above 0, at most 100.
            of: the total with requests that never ended, which count as longest; default: `count`.

        Returns:
            Infinity if it falls among those that never ended; 0 without values.
        """
        total = self.count if of is None else of
        if not total:
            return 0.0
        rank = max(1, int(np.ceil(total * percent / 100 - 1e-9)))
        if rank > self.count:
            return float("inf")
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(min(max(_LEAST_S * _GROWTH**bucket, self._min_s), self._max_s))

    def histogram(self, bars: int) -> Sequence[tuple[float, int]]:
        """Returns `bars` ranges from the shortest to the longest, equal on a logarithmic scale.

        Returns:
            Each range's upper end in seconds and its number of values; empty without values.
        """
        if not self.count:
            return []
        used = np.flatnonzero(self._counts)
        edges = np.unique(np.linspace(used[0], used[-1] + 1, bars + 1).round().astype(int))
        ends = np.minimum(_LEAST_S * _GROWTH ** (edges[1:] - 1.0), self._max_s)
        sums = np.add.reduceat(self._counts, edges[:-1])[: len(ends)]
        # reduceat's last range extends to the end of the array, which is empty there.
        return [(float(end), int(count)) for end, count in zip(ends, sums, strict=True)]
