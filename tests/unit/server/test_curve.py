"""What is measured of a model when it is loaded, and what follows from it."""

from typing import Any

import pytest

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve, measure, powers_of_two

US = 1000


def curve(**times_us: float) -> LatencyCurve:
    """Returns a curve of times in microseconds, by s1, s2 and so on."""
    return LatencyCurve(
        tuple(int(size[1:]) for size in times_us), tuple(int(time_us * US) for time_us in times_us.values())
    )


@pytest.mark.parametrize(
    ("measured", "best"),
    [
        pytest.param(UNMEASURED, 0, id="nothing was measured"),
        pytest.param(curve(s1=10_000, s2=10_000, s4=10_000), 4, id="larger is better"),
        pytest.param(curve(s1=100_000, s2=200_000, s4=400_000), 1, id="each row costs the same: the smallest"),
        pytest.param(curve(s1=10_000, s4=10_000, s16=160_000), 4, id="the cache is too small for the largest"),
        pytest.param(curve(s8=8_000, s16=15_600), 8, id="a gain that is not worth the latency"),
        pytest.param(curve(s8=8_000, s16=15_000), 16, id="a gain that is"),
        # A run of 20 µs a row, and 100 µs beside the model whatever its size.
        pytest.param(curve(s1=20, s8=160, s16=320, s64=1280, s256=5120), 256, id="what a run costs is shared"),
        pytest.param(curve(s1=20, s8=160, s16=320, s64=1280, s256=6000), 64, id="and counted"),
    ],
)
def test_the_best_size_is_the_smallest_that_serves_about_as_many_rows_as_any(measured: LatencyCurve, best: int) -> None:
    assert measured.best_size == best


@pytest.mark.parametrize(("rows", "time_us"), [(1, 10), (2, 20), (3, 40), (4, 40), (5, None)])
def test_a_run_takes_what_the_next_larger_size_took(rows: int, time_us: int | None) -> None:
    assert curve(s1=10, s2=20, s4=40).run_ns(rows) == (None if time_us is None else time_us * US)


@pytest.mark.parametrize(
    ("rows", "limit", "time_us"),
    [(0, 4, 0), (1, 4, 10), (4, 4, 40), (5, 4, 50), (11, 4, 120), (5, 2, 50), (3, 1, 30), (9, 8, 0)],
)
def test_a_backlog_takes_full_runs_and_the_rest(rows: int, limit: int, time_us: int) -> None:
    assert curve(s1=10, s2=20, s4=40).backlog_ns(rows, limit) == time_us * US


def test_nothing_is_known_of_a_model_that_was_not_measured() -> None:
    assert (UNMEASURED.run_ns(1), UNMEASURED.backlog_ns(10, 1)) == (None, 0)


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [
        (0, ()),
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 4)),
        (6, (1, 2, 4, 6)),
        (64, (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_powers_of_two_end_with_the_largest_size(largest: int, sizes: tuple[int, ...]) -> None:
    assert powers_of_two(largest) == sizes


class Machine:
    """Takes a time for each run, by its size and how often that has run, and nothing for anything else."""

    def __init__(self, *times_ns: int) -> None:
        self.now_ns = 0
        self.runs: list[int] = []
        self._times_ns = times_ns

    def run(self, rows: int) -> None:
        self.now_ns += rows * self._times_ns[self.runs.count(rows) % len(self._times_ns)]
        self.runs.append(rows)

    def measure(self, *sizes: int, **limits: Any) -> LatencyCurve:
        return measure(self.run, sizes, clock_ns=lambda: self.now_ns, **limits)


def test_the_fastest_of_several_runs_counts_and_the_first_never_does() -> None:
    machine = Machine(1, 900, 800, 700, 850, 950)
    assert machine.measure(1, 4) == LatencyCurve((1, 4), (700, 2800), runs=(5, 5), spent_ns=(4200, 16_800))
    assert machine.runs == [1] * 6 + [4] * 6


def test_a_model_that_is_too_large_to_measure_is_warmed_and_timed_once() -> None:
    machine = Machine(10**9)
    times_ns = (10**9, 2 * 10**9)
    assert machine.measure(1, 2, budget_s=1.0) == LatencyCurve((1, 2), times_ns, runs=(1, 1), spent_ns=times_ns)
    assert machine.runs == [1, 1, 2, 2]


def test_the_budget_is_for_all_sizes_together() -> None:
    machine = Machine(100)
    machine.measure(1, 2, 3, budget_s=700e-9)
    # The first size takes 600 of the 700 ns; the others are run twice each.
    assert machine.runs == [1] * 6 + [2, 2, 3, 3]


def test_what_a_run_raises_is_raised() -> None:
    def fail(_: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        measure(fail, (1,))


def test_no_sizes_make_no_curve() -> None:
    assert Machine(1).measure() == UNMEASURED
