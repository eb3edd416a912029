"""Values are counted by upper bound."""

import numpy as np
import pytest

from pixelserve_server.observe.histogram import Histogram

BOUNDS = (0.1, 0.5, 1.0)
# Below, on and above each bound.
VALUES = (0.05, 0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 2.0)
COUNTS = [("0.1", 2), ("0.5", 4), ("1.0", 6), ("+Inf", 8)]


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(np.array(VALUES))
    assert histogram.cumulative() == COUNTS
    assert histogram.sum == pytest.approx(sum(VALUES))


def test_values_add_up() -> None:
    histogram = Histogram(BOUNDS)
    for value in VALUES:
        histogram.observe(np.array([value]))
    histogram.observe(np.array(VALUES))
    histogram.observe(np.array([]))
    assert histogram.cumulative() == [(bound, 2 * count) for bound, count in COUNTS]
    assert histogram.sum == pytest.approx(2 * sum(VALUES))


# 50e-6 * 10**9 is a little more than 50,000.
@pytest.mark.parametrize("bound_s", [50e-6, 1.25e-3, 0.15])
def test_nanoseconds_are_held_against_bounds_in_seconds(bound_s: float) -> None:
    histogram = Histogram([bound_s], scale=10**9)
    on_ns = round(bound_s * 1e9)
    histogram.observe(np.array([on_ns, on_ns, on_ns + 1]))
    assert histogram.cumulative() == [(str(bound_s), 2), ("+Inf", 3)]
    assert histogram.sum == pytest.approx((3 * on_ns + 1) / 1e9)


def test_a_sum_of_nanoseconds_stays_exact() -> None:
    """A float would lose single ones after 104 days."""
    histogram = Histogram([1.0], scale=1)
    histogram.observe(np.array([2**53]))
    for _ in range(3):
        histogram.observe(np.array([1]))
    assert histogram._sum == 2**53 + 3
