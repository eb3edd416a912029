"""The batcher's waiting times, order, and dropped requests."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.policy import QueuePolicy
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import Cancelled, DeadlineExceeded, Overloaded, QueueFull

FOREVER_S = 3600.0


def test_an_expired_request_is_dropped_and_its_mates_run(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    before = it.submit(1)
    expired = it.submit(2, deadline_s=time.monotonic())
    after = it.submit(3, deadline_s=time.monotonic() + FOREVER_S)
    it.finish()
    assert it.session.runs[1:] == [[1, 3]]
    assert isinstance(expired.answer(), DeadlineExceeded)
    assert (before.rows(), after.rows()) == ([10], [30])
    assert [type(error) for error in it.observer.dropped] == [DeadlineExceeded]


def test_a_cancelled_request_is_dropped_and_its_mates_run(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    cancelled, mate = it.submit(1), it.submit(2)
    cancelled.request.cancelled = True
    it.finish()
    assert it.session.runs[1:] == [[2]]
    assert isinstance(cancelled.answer(), Cancelled)
    assert mate.rows() == [20]
    assert [type(error) for error in it.observer.dropped] == [Cancelled]


def test_a_dropped_request_makes_room_in_the_batch(bench: Callable[..., Any]) -> None:
    it = bench(2)
    it.occupy()
    it.submit(1, 2, deadline_s=time.monotonic())
    it.submit(3)
    it.submit(4)
    it.finish()
    assert it.session.runs[1:] == [[3, 4]]


def test_a_queue_of_nothing_but_dropped_requests_runs_nothing(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    expired = [it.submit(value, deadline_s=time.monotonic()) for value in (1, 2)]
    it.finish()
    assert it.session.runs == [[-1]]
    assert all(isinstance(each.answer(), DeadlineExceeded) for each in expired)


def test_a_full_queue_refuses_at_once_and_takes_requests_again_when_it_has_room(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a batch runs; 2. two requests fill the queue; 3. the third is refused while the batch still runs;
    4. the batch ends, the two run; 5. the next request is taken."""
    it = bench(max_queue_size=2)
    it.occupy()
    waiting = [it.submit(1), it.submit(2)]
    assert it.batcher.waiting == 2
    with pytest.raises(QueueFull, match=r"m version 1: 2 requests wait"):
        it.submit(3)
    it.session.let_go(1)
    assert it.session.wait_until_running()
    taken = it.submit(4)
    it.finish()
    assert [each.rows() for each in (*waiting, taken)] == [[10], [20], [40]]
    assert it.session.runs == [[-1], [1, 2], [4]]
    # As in Triton, requests that were never accepted are not counted.
    assert it.observer.dropped == []


def test_the_queue_delay_waits_for_company_and_runs_when_the_batch_is_full(bench: Callable[..., Any]) -> None:
    it = bench(3, max_queue_delay_s=FOREVER_S)
    sent = [it.submit(1)]
    # The one place that waits for nothing to happen; a batcher that does not wait fails here or below.
    assert not it.session.wait_until_running(timeout_s=0.05)
    sent += [it.submit(2), it.submit(3)]
    assert it.session.wait_until_running()
    assert it.session.runs == [[1, 2, 3]]


def test_the_queue_delay_ends_and_the_request_runs_alone(bench: Callable[..., Any]) -> None:
    it = bench(max_queue_delay_s=0.001)
    it.session.let_go()
    assert it.submit(1).rows() == [10]


def test_the_queue_delay_counts_from_the_arrival_of_the_oldest(bench: Callable[..., Any]) -> None:
    it = bench(max_queue_delay_s=FOREVER_S)
    it.session.let_go()
    long_ago_ns = time.monotonic_ns() - int((FOREVER_S + 1) * 1e9)
    assert it.submit(1, arrived_ns=long_ago_ns).rows() == [10]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"values": [1, 2]}, {"values": [3, 4]}, id="one that would overflow"),
        pytest.param({"values": [1]}, {"values": [2], "columns": 2}, id="one of another shape"),
    ],
)
def test_a_closed_batch_does_not_wait_out_the_queue_delay(
    bench: Callable[..., Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    it = bench(3, max_queue_delay_s=FOREVER_S)
    it.session.let_go()
    sent = it.submit(*first.pop("values"), **first)
    it.submit(*second.pop("values"), **second)
    sent.rows()
    assert len(it.session.runs) == 1


def test_drain_does_not_wait_out_the_queue_delay(bench: Callable[..., Any]) -> None:
    it = bench(max_queue_delay_s=FOREVER_S)
    sent = it.submit(1)
    it.finish()
    assert sent.rows() == [10]


def test_there_is_no_queue_delay_where_nothing_is_merged(bench: Callable[..., Any]) -> None:
    it = bench(merge=False, max_queue_delay_s=FOREVER_S)
    it.session.let_go()
    assert it.submit(1).rows() == [10]


def test_an_expired_request_is_answered_while_the_session_runs_and_makes_room_at_once(
    bench: Callable[..., Any], timer: Timer
) -> None:
    """Timeline: 1. a batch runs and two requests fill the queue; 2. the deadline of one passes, and it is answered;
    3. another request has room, and a fourth has none; 4. only now the batch ends."""
    it = bench(max_queue_size=2, batcher={"timer": timer})
    first = it.occupy()
    patient = it.submit(1)
    expiring = it.submit(2, deadline_s=time.monotonic() + 0.02)
    assert isinstance(expiring.answer(), DeadlineExceeded)
    later = it.submit(3)
    with pytest.raises(QueueFull):
        it.submit(4)
    assert not first.is_answered
    it.finish()
    assert it.session.runs[1:] == [[1, 3]]
    assert (patient.rows(), later.rows()) == ([10], [30])
    assert [type(error) for error in it.observer.dropped] == [DeadlineExceeded]


def test_deadlines_are_met_in_their_own_order_whatever_the_order_of_arrival(
    bench: Callable[..., Any], timer: Timer
) -> None:
    it = bench(batcher={"timer": timer})
    it.occupy()
    now_s, order = time.monotonic(), []
    sent = [
        it.submit(value, deadline_s=now_s + wait_s, on_done=lambda _, value=value: order.append(value))
        for value, wait_s in ((1, 0.06), (2, FOREVER_S), (3, 0.02), (4, 0.04), (5, -1.0))
    ]
    last = it.submit(6, deadline_s=now_s + 0.08)
    assert isinstance(last.answer(), DeadlineExceeded)
    assert order == [5, 3, 4, 1]
    assert it.batcher.waiting == 1
    assert sent[1].request.deadline_ns is not None


def test_a_cancelled_request_is_answered_while_the_session_runs_and_makes_room_at_once(
    bench: Callable[..., Any],
) -> None:
    """Timeline: 1. a batch runs and two requests fill the queue; 2. the caller of one leaves, and it is answered;
    3. another request has room; 4. only now the batch ends."""
    it = bench(max_queue_size=2)
    first = it.occupy()
    leaving, mate = it.submit(1), it.submit(2)
    leaving.request.cancel()
    assert leaving.is_answered
    assert isinstance(leaving.answer(), Cancelled)
    later = it.submit(3)
    assert not first.is_answered
    it.finish()
    assert it.session.runs[1:] == [[2, 3]]
    assert (mate.rows(), later.rows()) == ([20], [30])
    assert [type(error) for error in it.observer.dropped] == [Cancelled]


def test_a_request_whose_caller_leaves_twice_or_too_late_is_answered_once(bench: Callable[..., Any]) -> None:
    it = bench()
    first = it.occupy()
    leaving = it.submit(1)
    for request in (leaving.request, leaving.request, first.request):
        request.cancel()
    it.finish()
    first.request.cancel()
    assert first.rows() == [-10]
    assert isinstance(leaving.answer(), Cancelled)
    assert (first.is_answered, leaving.is_answered) == (False, False)


def test_a_request_whose_caller_left_before_it_was_queued_does_not_wait(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    answers: list[Any] = []
    request = it.submit(1).request
    gone = type(request)(request.inputs, 1, answers.append)
    gone.cancel()
    it.batcher.submit(gone)
    assert [type(answer) for answer in answers] == [Cancelled]
    assert it.batcher.waiting == 1


TWO_LEVELS = {"priority_levels": 2, "default_priority": 2}


def test_requests_run_by_priority_and_in_their_order_within_one(bench: Callable[..., Any]) -> None:
    it = bench(1, **TWO_LEVELS)
    it.occupy()
    for value, priority in ((1, 2), (2, 1), (3, 2), (4, 1), (5, 0), (6, 7)):
        it.submit(value, priority=priority)
    it.finish()
    # 0 and what does not exist are the default's level.
    assert it.session.runs[1:] == [[2], [4], [1], [3], [5], [6]]


def test_requests_of_several_priorities_share_a_batch_the_first_in_front(bench: Callable[..., Any]) -> None:
    it = bench(3, **TWO_LEVELS)
    it.occupy()
    sent = [it.submit(value, priority=priority) for value, priority in ((1, 2), (2, 2), (3, 1), (4, 2))]
    it.finish()
    assert it.session.runs[1:] == [[3, 1, 2], [4]]
    assert [each.rows() for each in sent] == [[10], [20], [30], [40]]


def test_each_level_refuses_at_its_own_size(bench: Callable[..., Any]) -> None:
    it = bench(max_queue_size=2, **TWO_LEVELS, levels={1: QueuePolicy(1)})
    it.occupy()
    it.submit(1, priority=1)
    with pytest.raises(QueueFull):
        it.submit(2, priority=1)
    it.submit(3, priority=2)
    it.submit(4)
    with pytest.raises(QueueFull):
        it.submit(5)
    it.finish()
    assert it.session.runs[1:] == [[1, 3, 4]]


def test_a_request_that_has_waited_longer_than_its_levels_timeout_is_refused(
    bench: Callable[..., Any], timer: Timer
) -> None:
    it = bench(queue={"default_timeout_s": 0.02}, batcher={"timer": timer})
    it.occupy()
    assert isinstance(it.submit(1).answer(), DeadlineExceeded)
    it.finish()
    assert len(it.session.runs) == 1


class HandTimer:
    """A timer that rings when the test says so."""

    def __init__(self) -> None:
        self.times_ns: list[int] = []
        self.ring: Callable[[], object] = lambda: None

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        self.times_ns.append(when_ns)
        self.ring = function


def test_a_request_that_may_be_late_goes_behind_the_others_of_its_level(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a batch runs, and three requests wait, two of which have waited too long; 2. the timer rings; 3. one
    more comes; 4. the batch ends."""
    timer = HandTimer()
    policy = {"default_timeout_s": FOREVER_S, "timeout_action": "delay"}
    it = bench(1, queue=policy, **TWO_LEVELS, batcher={"timer": timer})
    it.occupy()
    long_ago_ns = time.monotonic_ns() - int((FOREVER_S + 1) * 1e9)
    sent = [
        it.submit(1, priority=1, arrived_ns=long_ago_ns),
        it.submit(2, priority=1, arrived_ns=long_ago_ns),
        it.submit(3, priority=1),
        it.submit(4, priority=2),
    ]
    timer.ring()
    sent.append(it.submit(5, priority=1))
    assert (it.batcher.waiting, it.observer.dropped) == (5, [])
    it.finish()
    assert it.session.runs[1:] == [[3], [5], [1], [2], [4]]
    assert [each.rows() for each in sent] == [[10], [20], [30], [40], [50]]


def test_the_timer_is_set_to_the_earliest_time_only(bench: Callable[..., Any]) -> None:
    timer = HandTimer()
    it = bench(batcher={"timer": timer})
    it.occupy()
    now_s = time.monotonic()
    for wait_s in (100, 200, 50, 150):
        it.submit(1, deadline_s=now_s + wait_s)
    assert timer.times_ns == [int((now_s + 100) * 1e9), int((now_s + 50) * 1e9)]
    # It fires too early, and is set again for the earliest deadline.
    timer.ring()
    assert timer.times_ns[2:] == [int((now_s + 50) * 1e9)]


def test_the_largest_preferred_size_that_is_there_runs(bench: Callable[..., Any]) -> None:
    it = bench(preferred_batch_sizes=(2, 4))
    it.occupy()
    for value in range(1, 8):
        it.submit(value)
    it.finish()
    # The rest is not a preferred size, and there is no delay to wait for more.
    assert it.session.runs[1:] == [[1, 2, 3, 4], [5, 6], [7]]


def test_a_preferred_size_is_met_by_whole_requests_only(bench: Callable[..., Any]) -> None:
    it = bench(preferred_batch_sizes=(4,))
    it.occupy()
    for values in ([1, 2, 3], [4, 5], [6]):
        it.submit(*values)
    it.finish()
    assert it.session.runs[1:] == [[1, 2, 3, 4, 5, 6]]


def test_a_preferred_size_ends_the_queue_delay_and_others_go_on_waiting(bench: Callable[..., Any]) -> None:
    it = bench(preferred_batch_sizes=(3,), max_queue_delay_s=FOREVER_S)
    sent = [it.submit(1), it.submit(2)]
    assert not it.session.wait_until_running(timeout_s=0.05)
    sent.append(it.submit(3))
    assert it.session.wait_until_running()
    assert it.session.runs == [[1, 2, 3]]
    it.session.let_go(1)
    assert [each.rows() for each in sent] == [[10], [20], [30]]


def test_a_request_that_has_waited_out_the_delay_takes_all_others_along(bench: Callable[..., Any]) -> None:
    it = bench(preferred_batch_sizes=(2,), max_queue_delay_s=FOREVER_S)
    # Two fill a preferred size, so they run.
    it.submit(-1)
    it.submit(-2)
    assert it.session.wait_until_running()
    it.submit(1, arrived_ns=time.monotonic_ns() - int((FOREVER_S + 1) * 1e9))
    it.submit(2)
    it.submit(3)
    it.finish()
    assert it.session.runs == [[-1, -2], [1, 2, 3]]


SLOW = LatencyCurve((1, 2), (10 * 10**9, 10 * 10**9))
"""A run takes 10 s whatever its rows, up to two."""


def test_a_request_that_would_be_late_is_refused_at_once(bench: Callable[..., Any]) -> None:
    it = bench(2, batcher={"curve": SLOW, "clock_ns": lambda: 0})
    it.occupy()
    for value in range(1, 5):
        it.submit(value)
    with pytest.raises(Overloaded, match="more waits than can be computed before this request's deadline"):
        it.submit(5, deadline_s=39)
    it.submit(6, deadline_s=41)
    it.finish()
    assert it.session.runs == [[-1], [1, 2], [3, 4], [6]]


def test_what_waits_and_would_be_late_makes_room_for_others(bench: Callable[..., Any]) -> None:
    now = [0]
    it = bench(2, batcher={"curve": SLOW, "clock_ns": lambda: now[0]})
    it.occupy()
    late, *others = [it.submit(1, deadline_s=25), it.submit(2), it.submit(3)]
    # The run in progress has taken 6 s longer than expected.
    now[0] = 16 * 10**9
    it.finish()
    assert isinstance(late.answer(), Overloaded)
    assert [each.rows() for each in others] == [[20], [30]]


def test_one_without_others_behind_it_runs_until_its_deadline_has_passed(
    bench: Callable[..., Any],
) -> None:
    now = [0]
    it = bench(2, batcher={"curve": SLOW, "clock_ns": lambda: now[0]})
    it.occupy()
    only = it.submit(1, deadline_s=25)
    now[0] = 16 * 10**9
    it.finish()
    assert only.rows() == [10]


@pytest.mark.parametrize(("merge", "is_taken"), [(True, True), (False, False)])
def test_where_nothing_is_merged_each_request_takes_a_run(
    bench: Callable[..., Any], merge: bool, is_taken: bool
) -> None:
    it = bench(2, merge=merge, batcher={"curve": SLOW, "clock_ns": lambda: 0})
    it.occupy()
    it.submit(1)
    it.submit(2)
    # The run in progress, those that wait, and its own: 30 s if the two share a run, else 40.
    if is_taken:
        it.submit(3, deadline_s=35)
    else:
        with pytest.raises(Overloaded):
            it.submit(3, deadline_s=35)
    it.finish()


def test_a_limit_of_the_wait_is_none_of_the_run(bench: Callable[..., Any]) -> None:
    now = [0]
    it = bench(2, queue={"default_timeout_s": 25.0}, batcher={"curve": SLOW, "clock_ns": lambda: now[0]})
    it.occupy()
    sent = [it.submit(value, arrived_ns=0) for value in (1, 2, 3)]
    now[0] = 16 * 10**9
    it.session.let_go(2)
    assert [each.rows() for each in sent[:2]] == [[10], [20]]


def test_runs_are_larger_while_requests_are_shed_and_as_before_afterwards(bench: Callable[..., Any]) -> None:
    now = [1]
    curve = LatencyCurve((1, 2, 8), (10**9, 10**9, 8 * 10**9))
    it = bench(8, limit_batches=True, shed_delay_s=4.0, batcher={"curve": curve, "clock_ns": lambda: now[0]})
    assert it.batcher.limit == 2
    it.occupy()
    for value in range(1, 11):
        it.submit(value)
    now[0] = int(0.25e9)
    with pytest.raises(Overloaded, match="more is asked of it than it can compute"):
        it.submit(11)
    it.session.let_go(1)
    assert it.session.wait_until_running()
    now[0] = int(30e9)
    it.finish()
    # Two seconds' work: half of what may wait.
    assert it.session.runs == [[-1], [1, 2, 3, 4], [5, 6], [7, 8], [9, 10]]


def test_a_polite_sender_is_judged_by_what_runs_before_it_and_a_greedy_one_by_all_it_sent(
    bench: Callable[..., Any],
) -> None:
    it = bench(2, batcher={"curve": SLOW, "clock_ns": lambda: 0})
    it.occupy()
    for value in range(1, 7):
        it.submit(value, sender="greedy")
    with pytest.raises(Overloaded):
        it.submit(7, sender="greedy", deadline_s=35)
    # The run in progress, and its own with one of the others' rows: 30 s at the most, where the others take 40.
    polite = it.submit(8, sender="polite", deadline_s=35)
    it.finish()
    assert polite.rows() == [80]
    assert it.session.runs == [[-1], [8, 1], [2, 3], [4, 5], [6]]


def test_a_polite_sender_does_not_make_a_greedy_ones_queue_short(bench: Callable[..., Any]) -> None:
    now = [1]
    it = bench(2, shed_delay_s=15.0, batcher={"curve": SLOW, "clock_ns": lambda: now[0]})
    it.occupy()
    for value in range(1, 9):
        it.submit(value, sender="greedy")
    now[0] = int(0.25e9)
    it.submit(9, sender="polite")
    with pytest.raises(Overloaded, match="more is asked of it than it can compute"):
        it.submit(10, sender="greedy")
    it.finish()


def test_a_full_queue_costs_the_greedy_sender_its_newest_request(bench: Callable[..., Any]) -> None:
    it = bench(2, max_queue_size=3)
    it.occupy()
    greedy = [it.submit(value, sender="greedy") for value in (1, 2, 3)]
    polite = it.submit(4, sender="polite")
    assert isinstance(greedy[2].answer(), QueueFull)
    assert [type(error) for error in it.observer.dropped] == [QueueFull]
    with pytest.raises(QueueFull):
        it.submit(5, sender="greedy")
    it.finish()
    assert polite.rows() == [40]
    assert [each.rows() for each in greedy[:2]] == [[10], [20]]
