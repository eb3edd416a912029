"""Counts by upper bound, as Prometheus has them."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ..engine.tensors import Array


class Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: Sequence[float], scale: int = 1) -> None:
        """Starts out empty.

        Args:
            bounds: upper ones, rising.
            scale: how many units of what is observed make one of the bounds': 10**9 for nanoseconds and seconds.
        """
        self._bounds = bounds
        # Values are compared as they come: to divide each by the scale takes longer than to find its place.
        self._limits = np.array(bounds if scale == 1 else [round(bound * scale) for bound in bounds])
        self._scale = scale
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0

    @property
    def sum(self) -> float:
        """All values together, in the bounds' unit."""
        return self._sum / self._scale

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds, rising; the last count has none."""
        return self._bounds

    @property
    def counts(self) -> Sequence[int]:
        """Values between one bound and the next."""
        return self._counts

    def observe(self, values: Array) -> None:
        """Adds values [N]; many at once cost a fraction of what they cost one by one."""
        more = np.bincount(np.searchsorted(self._limits, values), minlength=len(self._counts)).tolist()
        self._counts = [count + new for count, new in zip(self._counts, more, strict=True)]
        self._sum += values.sum().item()

    def cumulative(self) -> list[tuple[str, float]]:
        """Returns how many values are at most each bound, the last of which is +Inf."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))
