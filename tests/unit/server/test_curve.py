"""The run-time curve measured at load, and its consequences."""

import pytest

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve, powers_of_two

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


@pytest.mark.parametrize(
    ("measured", "has_levelled_off"),
    [
        pytest.param(UNMEASURED, False, id="nothing was measured"),
        pytest.param(curve(s1=10_000, s2=10_000, s4=10_000), False, id="larger is better"),
        pytest.param(curve(s1=10_000, s2=20_000), False, id="one size that is no faster may be noise"),
        pytest.param(curve(s1=10_000, s2=30_000, s4=20_000), False, id="and was"),
        pytest.param(curve(s1=10_000, s2=20_000, s4=40_000), True, id="two sizes that are no faster"),
        pytest.param(curve(s1=10_000, s2=10_000, s4=20_000, s8=40_000), True, id="after one that was"),
        pytest.param(curve(s1=10_000, s2=19_400, s4=37_600), False, id="small gains that add up"),
    ],
)
def test_a_curve_has_levelled_off_once_two_sizes_are_no_faster_per_row(
    measured: LatencyCurve, has_levelled_off: bool
) -> None:
    assert measured.has_levelled_off == has_levelled_off


@pytest.mark.parametrize(("rows", "time_us"), [(1, 10), (2, 20), (3, 36), (4, 36), (5, 45), (64, 576)])
def test_a_run_takes_what_the_next_larger_size_took_or_in_proportion_to_the_largest(rows: int, time_us: int) -> None:
    assert curve(s1=10, s2=20, s4=36).run_ns(rows) == time_us * US


@pytest.mark.parametrize(
    ("rows", "limit", "time_us"),
    [(0, 4, 0), (1, 4, 10), (4, 4, 40), (5, 4, 50), (11, 4, 120), (5, 2, 50), (3, 1, 30), (9, 8, 90), (70, 64, 700)],
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
