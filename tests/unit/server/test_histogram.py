"""Values are counted by upper bound, however they come."""

import numpy as np
import pytest

from pixelserve_server.observe.histogram import Histogram

BOUNDS = (0.1, 0.5, 1.0)
# Below, on and above each bound.
VALUES = (0.05, 0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 2.0)
COUNTS = [("0.1", 2), ("0.5", 4), ("1.0", 6), ("+Inf", 8)]


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram(BOUNDS)
    for value in VALUES:
        histogram.observe(value)
    assert histogram.cumulative() == COUNTS
    assert histogram.sum == pytest.approx(sum(VALUES))


def test_a_few_at_once_and_an_array_count_as_one_by_one() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe_all(VALUES)
    histogram.observe_array(np.array(VALUES))
    assert histogram.cumulative() == [(bound, 2 * count) for bound, count in COUNTS]
    assert histogram.sum == pytest.approx(2 * sum(VALUES))


def test_no_values_change_nothing() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe_all([])
    histogram.observe_array(np.array([]))
    assert histogram.cumulative() == [(bound, 0) for bound, _ in COUNTS]
    assert histogram.sum == 0


# 50e-6 * 10**9 is a little more than 50,000.
@pytest.mark.parametrize("bound_s", [50e-6, 1.25e-3, 0.15])
def test_nanoseconds_are_held_against_bounds_in_seconds(bound_s: float) -> None:
    histogram = Histogram([bound_s], scale=10**9)
    on_ns = round(bound_s * 1e9)
    histogram.observe(on_ns)
    histogram.observe_all([on_ns, on_ns + 1])
    histogram.observe_array(np.array([on_ns, on_ns + 1]))
    assert histogram.cumulative() == [(str(bound_s), 3), ("+Inf", 5)]
    assert histogram.sum == pytest.approx((5 * on_ns + 2) / 1e9)
