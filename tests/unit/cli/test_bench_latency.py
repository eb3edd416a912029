"""Percentiles in constant memory."""

import numpy as np
import pytest

from pixelserve.bench.latency import Latencies


def latencies(*values_s: float) -> Latencies:
    made = Latencies()
    for value_s in values_s:
        made.add(value_s)
    return made


@pytest.mark.parametrize("per_mille", [1, 10, 500, 900, 950, 990, 999, 1000])
def test_percentiles_are_those_of_the_sorted_values_to_a_thousandth(per_mille: int) -> None:
    values = np.random.default_rng(0).lognormal(-7, 2, 20_000)
    expected = sorted(values)[20 * per_mille - 1]
    assert latencies(*values).percentile_s(per_mille / 10) == pytest.approx(expected, rel=0.0011)


def test_mean_and_maximum_are_exact() -> None:
    made = latencies(*([0.002] * 5000), 0.004)
    assert (made.count, made.max_s) == (5001, 0.004)
    assert made.mean_s == pytest.approx((0.002 * 5000 + 0.004) / 5001)
    # A percentile is never outside the measured range.
    assert made.percentile_s(50) == 0.002 or made.percentile_s(50) <= 0.002 * 1.001
    assert made.percentile_s(100) == 0.004


def test_what_never_ended_counts_as_longer_than_any() -> None:
    made = latencies(*([0.001] * 98))
    assert made.percentile_s(98, of=100) == pytest.approx(0.001)
    assert made.percentile_s(99, of=100) == float("inf")


def test_nothing_has_no_percentiles_and_no_histogram() -> None:
    made = Latencies()
    assert (made.count, made.mean_s, made.max_s, made.percentile_s(99)) == (0, 0.0, 0.0, 0.0)
    assert made.histogram(16) == []


@pytest.mark.parametrize("values_s", [[0.001], [0.0, 1e9], [1e-9, 0.0005, 0.02], [0.001 * n for n in range(1, 1000)]])
def test_the_histogram_holds_every_value_once_up_to_the_maximum(values_s: list[float]) -> None:
    bars = latencies(*values_s).histogram(16)
    assert 1 <= len(bars) <= 16
    assert sum(count for _, count in bars) == len(values_s)
    ends_s = [end_s for end_s, _ in bars]
    assert ends_s == sorted(ends_s)
    assert bars[-1][1] > 0


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    made = Latencies()
    for _ in range(50_000):
        made.add(0.001)
    assert made.count == 50_000
    assert not made._chunk
