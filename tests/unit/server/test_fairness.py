"""The order of requests: turns, and waiting-time estimates."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve_server.engine.fairness import FairQueue
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.queue import RequestQueue, why_dropped
from pixelserve_server.engine.request import Request
from pixelserve_server.errors import QueueFull

SECOND_NS = 10**9


def request(name: str, *, rows: int = 1, width: int = 1, **fields: Any) -> Request:
    """Returns a request that arrived at 0, whose sender is its name's first letter."""
    made = Request({"x": np.zeros((rows, width))}, rows, lambda _: None, arrived_ns=0, **fields)
    made.name, made.sender = name, name[:1]
    return made


def make(most: int = 1000, **policy: Any) -> RequestQueue:
    return RequestQueue(BatchingPolicy(8, True, QueuePolicy(most, **policy.pop("level", {})), **policy))


def push(queue: RequestQueue, *names: str, **fields: Any) -> list[bool]:
    return [queue.push(request(name, **fields)) for name in names]


def names(requests: Any) -> list[str]:
    return [each.name for each in requests]


def taken(queue: RequestQueue, limit: int = 8) -> list[str]:
    return names(queue.take(limit, merge=True, now_ns=0)[0])


def test_a_request_beside_hundreds_of_another_sender_is_in_the_next_run() -> None:
    queue = make()
    push(queue, *(f"a{number}" for number in range(512)))
    polite = request("b")
    assert queue.rows_before(polite) == 1
    queue.push(polite)
    assert taken(queue) == ["b", *(f"a{number}" for number in range(7))]


def test_senders_take_turns_and_each_keeps_its_order() -> None:
    queue = make()
    push(queue, "a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert taken(queue, 4) == ["b1", "c1", "a1", "b2"]
    assert taken(queue) == ["a2", "a3", "a4"]


def test_requests_that_come_together_take_turns_too() -> None:
    queue = make()
    assert queue.push_all([request(name) for name in ("a1", "a2", "a3", "b1", "a4")])
    assert queue.push_all([request(name) for name in ("c1", "c2")])
    assert taken(queue, 4) == ["b1", "c1", "a1", "c2"]
    assert (queue.size, queue.rows) == (3, 3)


@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("senders", ["ab", "abc", "abcdefgh"])
def test_no_sender_is_overtaken_endlessly_by_others_that_come_and_go(senders: str, run: int) -> None:
    """Each has one request at a time, and sends the next as soon as that has run."""
    queue = make()
    push(queue, *(f"{sender}0" for sender in senders))
    waited = Counter(senders)
    for number in range(1, 100):
        gone = taken(queue, run)
        push(queue, *(f"{name[0]}{number}" for name in gone))
        for sender in senders:
            waited[sender] = 0 if sender in {name[0] for name in gone} else waited[sender] + 1
        assert max(waited.values()) <= len(senders)


def test_turns_are_of_rows_not_of_requests() -> None:
    queue = make()
    push(queue, "a1", "a2", rows=4)
    push(queue, *(f"b{number}" for number in range(1, 9)))
    assert taken(queue, 100) == ["b1", "b2", "b3", "b4", "a1", "b5", "b6", "b7", "b8", "a2"]


def test_a_sender_that_is_alone_again_saves_nothing_for_later() -> None:
    queue = make()
    push(queue, "a1", "b1")
    push(queue, *(f"a{number}" for number in range(2, 9)))
    assert taken(queue, 6) == ["b1", "a1", "a2", "a3", "a4", "a5"]
    # It was a's turn already.
    push(queue, "b2", "b3")
    assert taken(queue, 4) == ["a6", "b2", "a7", "b3"]


def test_the_order_is_that_of_arrival_again_once_all_have_run() -> None:
    queue = make()
    push(queue, "a1", "b1", "a2")
    assert taken(queue) == ["b1", "a1", "a2"]
    push(queue, "c1", "c2")
    assert taken(queue) == ["c1", "c2"]


def test_a_request_whose_turn_it_is_and_that_cannot_join_a_run_is_first_in_the_next() -> None:
    queue = make()
    push(queue, "a1", "a2", "a3")
    push(queue, "b1", width=2)
    assert taken(queue) == ["b1"]
    push(queue, "b2")
    assert taken(queue, 2) == ["a1", "b2"]
    push(queue, "c1", width=2)
    assert [taken(queue), taken(queue), taken(queue)] == [["a2"], ["c1"], ["a3"]]


def test_priorities_come_before_turns() -> None:
    queue = make(priority_levels=2, default_priority=2)
    push(queue, "a1", "a2", "a3", priority=1)
    push(queue, "b1", priority=2)
    push(queue, "c1", priority=1)
    assert queue.rows_before(request("d", priority=2)) == 5
    assert queue.rows_before(request("d", priority=1)) == 2
    assert taken(queue) == ["c1", "a1", "a2", "a3", "b1"]


def test_callers_do_not_take_turns_if_answers_leave_in_order() -> None:
    queue = make(5, preserve_ordering=True)
    push(queue, "a1", "a2", "a3")
    assert queue.push_all([request("b1"), request("a4")])
    assert queue.rows_before(request("c")) == 5
    assert push(queue, "c1") == [False]
    assert taken(queue) == ["a1", "a2", "a3", "b1", "a4"]


def test_senders_whose_requests_may_be_late_take_turns_behind_the_others() -> None:
    queue = make(level={"default_timeout_s": 1.0, "timeout_action": "delay"})
    push(queue, "a1", "a2", "b1")
    queue.expire(SECOND_NS)
    late = request("c1")
    late.arrived_ns = SECOND_NS
    queue.push(late)
    assert names(queue.waiting()) == ["c1", "b1", "a1", "a2"]


def test_a_full_queue_costs_the_sender_that_has_most() -> None:
    queue = make(4)
    assert push(queue, "a1", "a2", "a3", "a4", "a5") == [True] * 4 + [False]
    assert push(queue, "b1") == [True]
    assert names(queue.displaced) == ["a4"]
    error = why_dropped("model", queue.displaced.pop(), 10)
    assert type(error) is QueueFull
    assert "this sender had most of it" in str(error)
    # Both have their share now.
    assert push(queue, "b2", "b3", "a6") == [True, False, False]
    # A third one's is one of the four.
    assert push(queue, "c1", "c2") == [True, False]
    assert (queue.size, queue.rows, len(queue.displaced)) == (4, 4, 2)
    assert sorted(names(queue.waiting()))[-1] == "c1"


def test_a_full_queue_of_requests_that_may_be_late_costs_the_sender_that_has_most() -> None:
    queue = make(3, level={"default_timeout_s": 1.0, "timeout_action": "delay"})
    push(queue, "a1", "a2", "a3")
    queue.expire(SECOND_NS)
    assert push(queue, "b1") == [True]
    assert names(queue.displaced) == ["a3"]
    assert names(queue.waiting()) == ["b1", "a1", "a2"]


def test_a_full_level_affects_no_other_level() -> None:
    queue = make(2, priority_levels=2, default_priority=2)
    push(queue, "a1", "a2", priority=1)
    assert push(queue, "b1", "b2", "b3", priority=2) == [True, True, False]
    assert queue.displaced == []


def test_what_is_taken_out_of_a_turn_leaves_the_others_in_theirs() -> None:
    queue = make()
    made = [request(name, deadline_s=1.0 if name == "c1" else None) for name in ("a1", "a2", "b1", "b2", "c1")]
    for each in made:
        queue.push(each)
    assert queue.remove(made[2])
    assert not queue.remove(made[2])
    assert names(queue.expire(SECOND_NS)) == ["c1"]
    assert (queue.size, queue.rows) == (3, 3)
    assert taken(queue) == ["b2", "a1", "a2"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from("aaaabc"), st.integers(1, 6)),
        st.tuples(st.just("push"), st.sampled_from("abcdef"), st.just(1)),
        st.tuples(st.just("take"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_whatever_comes_the_order_is_kept_within_a_sender_and_no_run_is_left_short(done: list[Any]) -> None:
    queue, inside = make(), dict[str, list[Request]]()
    for number, (what, value, rows) in enumerate(done):
        waiting = list(queue.waiting())
        if what == "push":
            made = request(f"{value}{number}", rows=rows)
            assert queue.push(made)
            inside.setdefault(value, []).append(made)
        elif what == "remove" and waiting:
            gone = waiting[value % len(waiting)]
            assert queue.remove(gone)
            inside[gone.sender].remove(gone)
        elif what == "take":
            batch, rows, dropped = queue.take(value, merge=True, now_ns=0)
            # The order that was shown is the order in which they run.
            assert (batch, dropped) == (waiting[: len(batch)], [])
            # It ends where it is full, and never because of whose turn it is.
            left = waiting[len(batch) :]
            assert not left or rows + left[0].rows > value
            for each in batch:
                assert inside[each.sender].pop(0) is each
        assert sorted(names(queue.waiting())) == sorted(each.name for line in inside.values() for each in line)
        assert queue.size == sum(map(len, inside.values()))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(1, 8), min_size=1, max_size=30), min_size=2))
def test_senders_that_wait_all_the_time_get_equal_rows(loads: dict[str, list[int]]) -> None:
    line, left = FairQueue(), {sender: len(rows) for sender, rows in loads.items()}
    for sender, rows in loads.items():
        for each in rows:
            line.append(request(sender, rows=each))
    largest = max(map(max, loads.values()))
    served = Counter[str]()
    while all(left.values()):
        assert line.advance()
        served[line.front[0].sender] += line.front[0].rows
        left[line.front.popleft().sender] -= 1
        # Each has run its turns' share, except for its savings of less than a request.
        assert max(served.values()) - min(served[sender] for sender in loads) <= largest


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 6)), max_size=40),
    st.integers(0, 20),
    st.sampled_from("abz"),
    st.integers(1, 6),
)
def test_no_more_runs_before_a_request_than_was_foretold(
    others: list[tuple[str, int]], ran: int, sender: str, rows: int
) -> None:
    queue = make()
    for number, (other, size) in enumerate(others):
        queue.push(request(f"{other}{number}", rows=size))
    queue.take(ran, merge=ran > 0, now_ns=0)
    waiting = list(queue.waiting())
    new = request(sender, rows=rows)
    foretold = queue.rows_before(new)
    queue.push(new)
    order = list(queue.waiting())
    before = order[: order.index(new)]
    assert sum(each.rows for each in before) <= foretold
    own = sum(each.rows for each in waiting if each.sender == sender)
    # For its own rows, each other sender runs as many and what it had saved, which is less than a request, beside
    # the one whose turn it was.
    senders = len({each.sender for each in waiting} - {sender})
    assert foretold <= own + senders * (own + rows + 5) + 6


@pytest.mark.parametrize("senders", [32, 33, 500])
def test_a_forecast_among_many_senders_counts_a_turn_of_each(senders: int) -> None:
    queue = make(10_000)
    for _ in range(10):
        push(queue, *map(chr, range(1000, 1000 + senders)))
    polite = request("p")
    foretold = queue.rows_before(polite)
    queue.push(polite)
    assert list(queue.waiting()).index(polite) <= foretold <= 2 * senders + 2


def test_a_sender_that_waits_alone_is_a_plain_queue() -> None:
    queue = make()
    push(queue, "a1", "a2")
    (level,) = queue._levels
    assert not level.ready.queues
    push(queue, "b1")
    assert level.ready.queues
    taken(queue)
    assert not level.ready.queues
    assert push(queue, "b2") == [True]
    assert not level.ready.queues


@pytest.mark.parametrize("is_fair", [True, False])
def test_a_line_is_as_long_as_what_it_yields(is_fair: bool) -> None:
    line = FairQueue(is_fair=is_fair)
    for name in ("a1", "b1", "a2", "c1"):
        line.append(request(name))
    assert len(line) == len(list(line)) == 4
    assert (line.count("a"), line.count("z")) == ((2, 0) if is_fair else (4, 4))
