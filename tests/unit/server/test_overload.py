"""Requests that a model has no time for, on a fake clock."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixelserve_server.engine.curve import UNMEASURED, LatencyCurve
from pixelserve_server.engine.overload import LeastDelay, Overload


def ms(value: float) -> int:
    """Returns milliseconds as nanoseconds."""
    return int(value * 1e6)


# One row takes as long as two: a full run.
CURVE = LatencyCurve((1, 2), (ms(10), ms(10)))
SHED = ms(50)
HOUR = ms(3_600_000)


def overload(curve: LatencyCurve = CURVE, instances: int = 1, shed_ns: int = SHED) -> Overload:
    """Makes one whose full runs have two rows, and whose queue is short."""
    made = Overload(curve, instances, shed_ns)
    made.learn(curve, 2)
    assert made.takes_all(0, 0, None, HOUR)
    return made


@pytest.mark.parametrize(
    ("waiting", "left_ms", "refusal"),
    [
        pytest.param(4, 41, "", id="time for the run in progress, for what waits and for its own"),
        pytest.param(4, 39, "late", id="not quite"),
        pytest.param(0, 21, "", id="nothing waits"),
        pytest.param(0, 19, "late", id="nothing waits, and not quite"),
        pytest.param(4, None, "", id="no deadline"),
        pytest.param(4, 0, "", id="expired, which the queue tells"),
        pytest.param(4, -5, "", id="long expired"),
    ],
)
def test_a_request_is_taken_where_its_run_ends_before_its_deadline(
    waiting: int, left_ms: int | None, refusal: str
) -> None:
    it = overload()
    it.begin(0, 2, HOUR)
    assert it.judge(waiting, 1, None if left_ms is None else HOUR + ms(left_ms), HOUR) == refusal


def test_a_run_in_progress_counts_with_what_is_left_of_it() -> None:
    it = overload()
    it.begin(0, 2, HOUR)
    assert it.judge(0, 1, HOUR + ms(24), HOUR + ms(4)) == ""
    assert it.judge(0, 1, HOUR + ms(19), HOUR + ms(4)) == "late"
    # It takes longer than was expected: it may end at any moment.
    assert it.judge(0, 1, HOUR + ms(61), HOUR + ms(50)) == ""
    it.end(0, 2, ms(10))
    assert it.delay_ns(0, HOUR) == 0


def test_nothing_is_refused_where_nothing_was_measured() -> None:
    it = overload(UNMEASURED)
    it.begin(0, 2, HOUR)
    assert it.judge(1000, 1, HOUR + 1, HOUR) == ""
    assert it.takes_all(1000, 1000, HOUR + 1, HOUR)
    assert it.limit(64, HOUR) == 2


def test_instances_share_what_waits_and_one_that_is_free_has_no_run_to_end() -> None:
    it = overload(instances=2)
    it.begin(0, 2, HOUR)
    assert it.judge(4, 1, HOUR + ms(21), HOUR) == ""
    it.begin(1, 2, HOUR)
    assert it.judge(4, 1, HOUR + ms(21), HOUR) == "late"
    assert it.judge(4, 1, HOUR + ms(31), HOUR) == ""


def test_runs_that_take_longer_leave_time_for_fewer_until_they_are_fast_again() -> None:
    it = overload()

    def takes(left_ms: float) -> bool:
        return it.judge(2, 1, HOUR + ms(left_ms), HOUR) == ""

    assert takes(21)
    for ticket in range(30):
        it.end(ticket, 2, ms(30))
    assert (takes(55), takes(65)) == (False, True)
    for ticket in range(30):
        it.end(ticket, 2, ms(10))
    assert takes(21)


def test_a_model_that_was_measured_while_the_machine_was_busy_is_judged_by_its_runs() -> None:
    it = overload()
    it.begin(0, 2, HOUR)
    assert it.judge(2, 1, HOUR + ms(16), HOUR) == "late"
    it.end(0, 2, ms(5))
    for ticket in range(30):
        it.end(ticket, 2, ms(5))
    it.begin(1, 2, HOUR)
    assert it.judge(2, 1, HOUR + ms(16), HOUR) == ""
    assert it.judge(2, 1, HOUR + ms(14), HOUR) == "late"
    it.end(1, 2, ms(5))
    # Also on an empty queue.
    assert (it.judge(0, 2, HOUR + ms(6), HOUR), it.judge(0, 2, HOUR + ms(4), HOUR)) == ("", "late")


def test_runs_that_seem_to_take_no_time_do_not_accept_everything() -> None:
    it = overload()
    for ticket in range(100):
        it.end(ticket, 2, 1)
    assert ms(1.2) < it.run_ns(2) < ms(1.3)


@pytest.mark.parametrize(
    ("took_ms", "expected_ms"),
    [
        pytest.param(10, 40, id="as fast as the smaller size"),
        pytest.param(25, 40, id="between the two sizes"),
        pytest.param(40, 40, id="as slow as the larger size"),
        pytest.param(5, 20, id="faster than the smaller size"),
        pytest.param(80, 80, id="slower than the larger size"),
    ],
)
def test_a_run_between_two_sizes_shows_only_what_neither_explains(took_ms: float, expected_ms: float) -> None:
    it = Overload(LatencyCurve((1, 4), (ms(10), ms(40))), 1, SHED)
    for ticket in range(50):
        it.end(ticket, 2, ms(took_ms))
    assert it.run_ns(4) == pytest.approx(ms(expected_ms), rel=0.01)


def test_a_single_run_that_took_an_hour_does_not_refuse_everything() -> None:
    it = overload()
    it.end(0, 2, HOUR)
    assert it.run_ns(2) < ms(30)
    # A request on an empty queue is judged by the measured time, so there will be a run to learn from.
    assert it.judge(0, 1, HOUR + ms(11), HOUR) == ""


def test_a_burst_is_taken_and_a_queue_that_stands_is_shed() -> None:
    it = overload()
    # 60 ms of work: more than may stand, but not for long.
    assert it.judge(12, 1, None, HOUR + ms(199)) == ""
    assert it.judge(12, 1, None, HOUR + ms(201)) == "shed"
    # What would not wait too long is taken meanwhile.
    assert it.judge(8, 1, None, HOUR + ms(202)) == ""
    # The queue stood just now, so it is not a burst.
    assert it.judge(12, 1, None, HOUR + ms(203)) == "shed"
    # For a while nothing had to be shed.
    assert it.judge(8, 1, None, HOUR + ms(350)) == ""
    assert it.judge(12, 1, None, HOUR + ms(360)) == ""


def test_a_burst_leaves_time_for_the_larger_runs_that_follow_if_it_is_none() -> None:
    it = overload()
    # 145 and 155 ms of work, of 200; a run may grow to 50.
    assert it.judge(29, 1, HOUR + ms(200), HOUR) == ""
    assert it.judge(31, 1, HOUR + ms(200), HOUR) == "late"
    assert it.judge(31, 1, None, HOUR) == ""


def test_what_is_short_for_one_request_is_not_for_another() -> None:
    """Requests without a deadline may wait for a minute here; those with one, for half of it."""
    it = overload(shed_ns=60 * 10**9)
    for tick in range(30):
        now_ns = HOUR + ms(10 * tick)
        # 110 ms of work, which is short for a request that may wait a minute.
        assert it.judge(22, 1, None, now_ns) == ""
        assert it.judge(22, 1, now_ns + ms(200), now_ns) == ("" if tick < 20 else "shed")


def test_less_than_a_run_is_no_queue_however_long_the_run_in_progress_is() -> None:
    it = overload()
    it.begin(0, 120, HOUR)
    assert it.judge(1, 1, None, HOUR + ms(190), 1) == ""
    assert it.judge(3, 1, None, HOUR + ms(210), 3) == ""
    assert it.judge(3, 1, None, HOUR + ms(310), 3) == "shed"


@pytest.mark.parametrize(("at_ms", "expected"), [(160, 30), (199, 30), (200, 40), (299, 40), (300, 1 << 62)])
def test_the_shortest_delay_of_this_tenth_of_a_second_and_the_last_counts(at_ms: int, expected: int) -> None:
    least = LeastDelay()
    assert least.at(HOUR) == 1 << 62
    for delay_ns, added_ms in ((50, 0), (30, 10), (60, 20), (70, 100), (40, 150)):
        least.add(delay_ns, HOUR + ms(added_ms))
    assert least.at(HOUR + ms(at_ms)) == expected


def test_a_delay_of_0_sheds_nothing() -> None:
    it = overload(shed_ns=0)
    assert it.judge(10**6, 1, None, 2 * HOUR) == ""


def test_a_queue_of_one_run_is_short_however_long_that_takes() -> None:
    it = overload(shed_ns=1)
    assert it.judge(2, 1, None, 2 * HOUR) == ""
    assert it.judge(3, 1, None, 2 * HOUR + ms(201)) == "shed"


def test_in_a_queue_that_stands_a_request_may_wait_for_half_of_its_time() -> None:
    it = overload()
    now_ns = HOUR + ms(201)
    # 110 ms of work and 200 left.
    assert it.judge(22, 1, now_ns + ms(200), now_ns) == "shed"
    assert it.judge(22, 1, now_ns + ms(230), now_ns) == ""


def test_runs_grow_while_the_queue_stands() -> None:
    it = overload()
    assert it.limit(64, HOUR) == 2
    assert it.judge(22, 1, HOUR + ms(401), HOUR + ms(201)) == "shed"
    # To a quarter of the time that the one that was shed had left: 50 ms.
    assert it.limit(64, HOUR + ms(202)) == 10
    assert it.limit(8, HOUR + ms(202)) == 8
    assert it.limit(64, HOUR + ms(302)) == 2


@given(
    waiting=st.integers(0, 20),
    group=st.lists(
        st.tuples(st.integers(1, 3), st.none() | st.integers(1, 30) | st.integers(1, 300)), min_size=1, max_size=8
    ),
    is_running=st.booleans(),
    slower=st.sampled_from([1, 1, 3]),
)
# Its share of a full run ends in time, its own run does not.
@example(waiting=0, group=[(1, 8)], is_running=False, slower=1)
def test_what_is_taken_together_would_be_taken_one_by_one(
    waiting: int, group: list[tuple[int, int | None]], is_running: bool, slower: int
) -> None:
    def made() -> Overload:
        it = overload(LatencyCurve((1, 2, 4), (ms(10), ms(11), ms(12))))
        it.learn(it.curve, 4)
        for ticket in range(20):
            it.end(ticket, 4, slower * ms(12))
        if is_running:
            it.begin(100, 4, now_ns)
        return it

    now_ns = HOUR + ms(150)
    deadlines = [now_ns + ms(left_ms) for _, left_ms in group if left_ms is not None]
    if made().takes_all(waiting, sum(rows for rows, _ in group), min(deadlines, default=None), now_ns):
        alone = made()
        for rows, left_ms in group:
            deadline_ns = None if left_ms is None else now_ns + ms(left_ms)
            assert alone.judge(waiting, rows, deadline_ns, now_ns) == ""
            waiting += rows


def test_what_the_next_run_will_take_is_not_shed_however_long_the_run_in_progress_is() -> None:
    it = overload()
    it.begin(0, 60, HOUR + ms(190))
    now_ns = HOUR + ms(201)
    assert it.judge(1, 1, None, now_ns, 40) == ""
    assert it.judge(2, 1, None, now_ns, 40) == "shed"
    # The others' queue stands all the same, and no run makes up for a deadline.
    assert it.judge(1, 1, now_ns + ms(100), now_ns, 40) == "late"
