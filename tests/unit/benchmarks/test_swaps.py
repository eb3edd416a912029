"""Which requests belong to a swap, and which to the time before it."""

import numpy as np
import pytest

from benchmarks.compare import table
from benchmarks.compare.errors import LoadError
from benchmarks.compare.figures import Figure
from benchmarks.compare.swaps import around

# One request every 10 ms for ten seconds.
SENT_S = np.arange(0, 10, 0.01)


@pytest.fixture
def figure() -> Figure:
    return next(each for each in table.all_figures() if each.group == "swaps")


def p99s_us(figure: Figure, took_s: "np.ndarray[tuple[int], np.dtype[np.float64]]", done_s: float) -> tuple[int, int]:
    """Returns p99 around a swap that was asked for in the middle of the fifth second, and before it."""
    found = around(figure, np.array([SENT_S, SENT_S + took_s]).T, 4.495, done_s)
    return round(found[figure.ours]["p99_us"]), round(found[figure.against]["p99_us"])


def test_the_second_that_a_swap_begins_is_held_against_the_one_before(figure: Figure) -> None:
    took_s = np.select([SENT_S < 3.495, SENT_S < 4.495, SENT_S < 5.495], [9, 1, 2], 9)
    assert p99s_us(figure, took_s, done_s=4.7) == (2_000_000, 1_000_000)


def test_a_swap_that_takes_longer_is_looked_at_until_it_is_done(figure: Figure) -> None:
    took_s = np.where((SENT_S >= 6) & (SENT_S < 6.5), 3, 1)
    assert p99s_us(figure, took_s, done_s=5.9)[0] == 1_000_000
    assert p99s_us(figure, took_s, done_s=6.4)[0] == 3_000_000


def test_a_time_without_requests_is_an_error(figure: Figure) -> None:
    with pytest.raises(LoadError, match="no request"):
        around(figure, np.array([[1.0, 2.0]]), 4.5, 4.7)
