"""Work on the receiving thread."""

import pytest

from pixelserve_server.engine.arrival import LIMIT_NS, ArrivalRuns

SHORT_NS, LONG_NS = LIMIT_NS - 1, LIMIT_NS


@pytest.mark.parametrize(("measured_ns", "is_allowed"), [(SHORT_NS, True), (LONG_NS, False), (None, False)])
def test_what_was_measured_to_be_short_is_allowed(measured_ns: int | None, is_allowed: bool) -> None:
    assert ArrivalRuns().allows(measured_ns) is is_allowed


def test_a_run_that_took_too_long_ends_it_whatever_was_measured() -> None:
    runs = ArrivalRuns()
    runs.took(SHORT_NS)
    assert runs.allows(1)
    runs.took(LONG_NS)
    assert not runs.allows(1)


def short_runs_until_allowed(runs: ArrivalRuns) -> int:
    """Has short runs done elsewhere until they are allowed; returns how many it took."""
    count = 0
    while not runs.allows(1):
        runs.took_elsewhere(1, SHORT_NS)
        count += 1
    return count


def test_each_further_one_makes_it_take_twice_as_many_short_runs_elsewhere() -> None:
    runs, counts = ArrivalRuns(), []
    for _ in range(9):
        runs.took(LONG_NS)
        counts.append(short_runs_until_allowed(runs))
    assert counts == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]


def test_a_long_run_elsewhere_starts_the_count_again() -> None:
    runs = ArrivalRuns()
    runs.took(LONG_NS)
    for _ in range(15):
        runs.took_elsewhere(1, SHORT_NS)
    runs.took_elsewhere(1, LONG_NS)
    assert short_runs_until_allowed(runs) == 32


@pytest.mark.parametrize("measured_ns", [LONG_NS, None])
def test_runs_of_other_sizes_show_nothing(measured_ns: int | None) -> None:
    runs = ArrivalRuns()
    runs.took(LONG_NS)
    for _ in range(100):
        runs.took_elsewhere(measured_ns, SHORT_NS)
    assert short_runs_until_allowed(runs) == 16


def test_many_short_ones_in_a_row_are_trusted_as_at_first() -> None:
    runs = ArrivalRuns()
    for _ in range(3):
        runs.took(LONG_NS)
        short_runs_until_allowed(runs)
    for _ in range(1024):
        runs.took(SHORT_NS)
    runs.took(LONG_NS)
    assert short_runs_until_allowed(runs) == 16
