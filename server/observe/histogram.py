"""Histograms with upper bounds, as in Prometheus."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ..engine.tensors import Array


class Histogram:
    """Counts by upper bound.

    Args:
        bounds: upper bounds, ascending.
        scale: observed units per unit of the bounds: 10**9 for nanoseconds and seconds.
    """

    def __init__(self, bounds: Sequence[float], scale: int = 1) -> None:
        self._bounds = bounds
        # Values are compared unscaled: dividing each takes longer than finding its bucket.
        self._limits = np.array(bounds if scale == 1 else [round(bound * scale) for bound in bounds])
        self._scale = scale
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0

    @property
    def sum(self) -> float:
        """Sum of all values, in the bounds' unit."""
        return self._sum / self._scale

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds, ascending; the last count has none."""
        return self._bounds

    @property
    def counts(self) -> Sequence[int]:
        """Number of values between one bound and the next."""
        return self._counts

    def observe(self, values: Array) -> None:
        """Adds values [N]; far cheaper in bulk than one by one."""
        more = np.bincount(np.searchsorted(self._limits, values), minlength=len(self._counts)).tolist()
        self._counts = [count + new for count, new in zip(self._counts, more, strict=True)]
        self._sum += values.sum().item()

    def cumulative(self) -> list[tuple[str, float]]:
        """Returns the number of values up to each bound; the last bound is +Inf."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))
