"""The queue: levels, limits, deadlines, and merging."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.queue import RequestQueue
from pixelserve_server.engine.request import Request

SECOND_NS = 10**9
ROOMY = QueuePolicy(100)


def request(name: str = "", *, rows: int = 1, width: int = 1, **fields: Any) -> Request:
    """Returns a request that arrived at 0, named for the tests."""
    made = Request({"x": np.zeros((rows, width))}, rows, lambda _: None, arrived_ns=0, **fields)
    made.name = name
    return made


def names(requests: Any) -> str:
    return "".join(each.name for each in requests)


def make(queue: QueuePolicy = ROOMY, **policy: Any) -> RequestQueue:
    return RequestQueue(BatchingPolicy(8, True, queue, **policy))


@pytest.fixture
def two_levels() -> RequestQueue:
    """A queue of two levels, 2 being the default, in which a, b and c wait at level 2, d and e at level 1."""
    queue = make(priority_levels=2, default_priority=2)
    for name, priority in (("a", 2), ("d", 1), ("b", 0), ("e", 1), ("c", 3)):
        assert queue.push(request(name, priority=priority))
    return queue


def test_level_1_is_before_level_2_and_each_keeps_its_order(two_levels: RequestQueue) -> None:
    assert names(two_levels.waiting()) == "deabc"
    assert names(two_levels.take(8, merge=True, now_ns=0)[0]) == "deabc"


def test_a_batch_has_as_many_rows_as_the_limit_allows(two_levels: RequestQueue) -> None:
    batch, rows, dropped = two_levels.take(3, merge=True, now_ns=0)
    assert (names(batch), rows, dropped) == ("dea", 3, [])
    assert names(two_levels.waiting()) == "bc"
    assert two_levels.rows == 2


def test_one_request_is_taken_where_nothing_is_merged(two_levels: RequestQueue) -> None:
    assert names(two_levels.take(8, merge=False, now_ns=0)[0]) == "d"


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_the_first_request_is_taken_whatever_its_rows(limit: int) -> None:
    queue = make()
    queue.push(request("a", rows=5))
    queue.push(request("b"))
    batch, rows, _ = queue.take(limit, merge=True, now_ns=0)
    assert (names(batch), rows, queue.rows) == ("a", 5, 1)


def test_a_request_of_another_layout_closes_the_batch_and_is_not_overtaken() -> None:
    queue = make()
    for name, width in (("a", 1), ("b", 2), ("c", 1)):
        queue.push(request(name, width=width))
    assert [names(queue.take(8, merge=True, now_ns=0)[0]) for _ in range(3)] == ["a", "b", "c"]


def test_requests_of_equal_layouts_run_together() -> None:
    queue = make()
    for name in "ab":
        queue.push(request(name, width=3))
    first, second = queue.waiting()
    assert first.layout is not second.layout
    assert names(queue.take(8, merge=True, now_ns=0)[0]) == "ab"


def test_expired_and_cancelled_requests_are_dropped_and_take_no_room() -> None:
    queue = make()
    for name, deadline_s in (("a", 1.0), ("b", None), ("c", None), ("d", 2.0), ("e", 1.5)):
        queue.push(request(name, deadline_s=deadline_s, rows=2))
    next(each for each in queue.waiting() if each.name == "c").cancelled = True
    batch, rows, dropped = queue.take(4, merge=True, now_ns=int(1.5 * SECOND_NS))
    # The last one is in the way of the next batch only, and dropped all the same.
    assert (names(batch), rows, names(dropped)) == ("bd", 4, "ace")
    assert (list(queue.waiting()), queue.rows) == ([], 0)


def test_a_removed_request_is_gone_and_another_in_its_place_is_not(two_levels: RequestQueue) -> None:
    gone = next(each for each in two_levels.waiting() if each.name == "b")
    assert two_levels.remove(gone)
    assert not two_levels.remove(gone)
    assert not two_levels.remove(request("a", priority=2))
    assert (names(two_levels.waiting()), two_levels.rows) == ("deac", 4)


def test_clearing_gives_back_everything_in_its_order(two_levels: RequestQueue) -> None:
    assert names(two_levels.clear()) == "deabc"
    assert (list(two_levels.waiting()), two_levels.rows) == ([], 0)
    assert two_levels.push(request("f"))


def test_each_level_has_a_size_of_its_own() -> None:
    queue = make(QueuePolicy(2), priority_levels=3, default_priority=2, levels={3: QueuePolicy(1)})
    taken = [queue.push(request(priority=priority)) for priority in (1, 1, 1, 2, 0, 7, 3, 3)]
    assert taken == [True, True, False, True, True, False, True, False]


def test_a_level_that_was_full_takes_requests_again_when_one_has_left() -> None:
    queue = make(QueuePolicy(1))
    leaving = request("a")
    assert queue.push(leaving)
    assert not queue.push(request("b"))
    for leave in (
        lambda: queue.remove(leaving),
        lambda: queue.take(8, merge=True, now_ns=0),
        queue.clear,
        lambda: queue.expire(SECOND_NS),
    ):
        leave()
        assert queue.push(leaving)
        assert not queue.push(request("b"))
        leaving.deadline_ns = SECOND_NS


def test_waiting_time_does_not_matter_without_a_limit() -> None:
    queue, patient = make(), request()
    queue.push(patient)
    assert (patient.deadline_ns, patient.patience_ns, queue.next_event_ns()) == (None, None, None)


@pytest.mark.parametrize(
    ("default_s", "may_override", "own_s", "deadline_s", "until_s"),
    [
        pytest.param(5, False, None, None, 5, id="the level's timeout"),
        pytest.param(5, False, 3, None, 5, id="its own, which the level does not allow"),
        pytest.param(5, True, 3, None, 3, id="its own, which the level allows"),
        pytest.param(5, True, 7, None, 5, id="its own does not prolong the level's"),
        pytest.param(0, False, 3, None, 3, id="its own, where the level has none"),
        pytest.param(0, True, 3, None, 3, id="the same, where it would be allowed"),
        pytest.param(0, False, 3, 2, 2, id="a deadline that is earlier"),
        pytest.param(0, False, 3, 4, 3, id="a deadline that is later"),
        pytest.param(5, False, None, 4, 4, id="a deadline before the level's timeout"),
        pytest.param(0, True, None, 4, 4, id="a deadline only"),
    ],
)
def test_the_shortest_of_the_times_that_hold_is_a_requests_deadline(
    default_s: float, may_override: bool, own_s: int | None, deadline_s: float | None, until_s: float
) -> None:
    queue = make(QueuePolicy(8, default_s, allow_timeout_override=may_override))
    waiting = request("a", timeout_ns=(own_s or 0) * SECOND_NS, deadline_s=deadline_s)
    queue.push(waiting)
    assert queue.next_event_ns() == waiting.deadline_ns == until_s * SECOND_NS
    assert queue.expire(waiting.deadline_ns - 1) == []
    assert queue.expire(waiting.deadline_ns) == [waiting]
    assert (queue.rows, queue.next_event_ns()) == (0, None)


def test_a_timeout_counts_from_the_arrival() -> None:
    queue, waiting = make(), request("a", timeout_ns=3 * SECOND_NS)
    waiting.arrived_ns = SECOND_NS
    queue.push(waiting)
    assert waiting.deadline_ns == 4 * SECOND_NS


@pytest.fixture
def delaying() -> RequestQueue:
    """A queue whose requests move behind the others after one second; a is late then, b and c are not."""
    queue = make(QueuePolicy(4, 1.0, "delay"))
    for name, arrived_ns in (("a", 0), ("b", SECOND_NS), ("c", 2 * SECOND_NS)):
        made = request(name)
        made.arrived_ns = arrived_ns
        queue.push(made)
    return queue


def test_what_may_be_late_goes_behind_the_others_and_waits_on(delaying: RequestQueue) -> None:
    assert delaying.next_event_ns() == SECOND_NS
    assert delaying.expire(SECOND_NS - 1) == []
    assert names(delaying.waiting()) == "abc"
    assert delaying.expire(SECOND_NS) == []
    assert (names(delaying.waiting()), delaying.rows) == ("bca", 3)
    assert delaying.next_event_ns() == 2 * SECOND_NS
    assert delaying.expire(10 * SECOND_NS) == []
    assert (names(delaying.waiting()), delaying.next_event_ns()) == ("abc", None)


def test_what_is_late_still_counts_for_the_size_of_its_level(delaying: RequestQueue) -> None:
    delaying.expire(10 * SECOND_NS)
    assert delaying.push(request("d"))
    assert not delaying.push(request("e"))
    assert names(delaying.waiting()) == "dabc"


def test_what_is_late_may_still_be_removed_or_expire(delaying: RequestQueue) -> None:
    first, second, third = delaying.waiting()
    second.deadline_ns = 20 * SECOND_NS
    delaying.expire(10 * SECOND_NS)
    assert delaying.next_event_ns() == 20 * SECOND_NS
    assert delaying.remove(first)
    assert delaying.expire(20 * SECOND_NS) == [second]
    assert (list(delaying.waiting()), delaying.rows) == ([third], 1)


def test_what_is_late_at_a_high_level_is_before_what_is_not_at_a_lower_one() -> None:
    queue = make(priority_levels=2, default_priority=2, levels={1: QueuePolicy(4, 1.0, "delay")})
    for name, priority in (("a", 2), ("b", 1), ("c", 2)):
        queue.push(request(name, priority=priority))
    queue.expire(SECOND_NS)
    assert names(queue.take(8, merge=True, now_ns=SECOND_NS)[0]) == "bac"


@pytest.mark.parametrize("action", ["reject", "delay"])
def test_an_own_timeout_has_the_levels_action(action: Any) -> None:
    queue, waiting = make(QueuePolicy(4, timeout_action=action)), request("a", timeout_ns=SECOND_NS)
    queue.push(waiting)
    assert names(queue.expire(SECOND_NS)) == ("a" if action == "reject" else "")


pushes = st.tuples(st.just("push"), st.integers(1, 9), st.integers(0, 3), st.sampled_from([None, 2.0, 4.0]))
steps = st.one_of(
    pushes,
    pushes,
    st.tuples(st.just("take"), st.integers(0, 12), st.booleans()),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("expire"), st.integers(1, 3)),
    st.just(("clear",)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40), st.sampled_from(["reject", "delay"]))
def test_whatever_is_done_to_it_nothing_is_lost_and_the_counts_hold(done: list[Any], action: Any) -> None:
    queue = make(QueuePolicy(5, 3.0, action), priority_levels=2, levels={2: QueuePolicy(4)})
    inside: list[Request] = []
    now_ns = 0

    def leave(*left: Request) -> None:
        for each in left:
            inside.remove(each)

    for what, *values in done:
        waiting = list(queue.waiting())
        match what:
            case "push":
                made = request(rows=values[0], priority=values[1], deadline_s=values[2])
                made.arrived_ns = now_ns
                inside.extend([made] if queue.push(made) else [])
            case "take":
                batch, rows, dropped = queue.take(values[0], merge=values[1], now_ns=now_ns)
                assert rows == sum(each.rows for each in batch)
                assert len(batch) <= 1 or (values[1] and rows <= values[0])
                leave(*batch, *dropped)
            case "remove" if waiting:
                gone = waiting[values[0] % len(waiting)]
                assert queue.remove(gone)
                leave(gone)
            case "cancel" if waiting:
                waiting[values[0] % len(waiting)].cancelled = True
            case "expire":
                now_ns += values[0] * SECOND_NS
                leave(*queue.expire(now_ns))
                next_ns = queue.next_event_ns()
                assert next_ns is None or next_ns > now_ns
            case "clear":
                leave(*queue.clear())
        waiting = list(queue.waiting())
        assert sorted(map(id, waiting)) == sorted(map(id, inside))
        assert (queue.size, queue.rows) == (len(waiting), sum(each.rows for each in waiting))
