"""Confidence intervals of accuracies, compared with SciPy and a published example."""

import pytest

from pixelserve.interval import wilson


@pytest.mark.parametrize(
    ("correct", "samples"),
    [(9_966, 10_000), (9_157, 10_000), (29, 30), (4, 4), (0, 7), (1, 1), (1, 2), (50_000, 60_000)],
)
def test_it_is_scipys_interval(correct: int, samples: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(correct, samples).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(correct, samples) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_it_is_the_published_interval() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_all_and_none_correct_end_at_the_bounds() -> None:
    assert wilson(10_000, 10_000)[1] == 1.0
    assert wilson(0, 10_000)[0] == 0.0
    assert 0 < wilson(10_000, 10_000)[0] < 1


@pytest.mark.parametrize(("correct", "samples"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(correct: int, samples: int) -> None:
    with pytest.raises(ValueError, match="correct predictions"):
        wilson(correct, samples)
