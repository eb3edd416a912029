"""Requests that are submitted together: each behaves as if alone."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import QueuePolicy
from pixelserve_server.engine.request import Request
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import Cancelled, DeadlineExceeded, Overloaded, QueueFull, Unavailable, Unloading

FOREVER_S = 3600.0


class Group:
    """Requests of one row each, with their numbers and their answers."""

    def __init__(self, *values: int, **fields: dict[int, Any]) -> None:
        """Makes requests; `fields` are some of the requests' own, by field and number."""
        self.answers: dict[int, queue.Queue[Any]] = {value: queue.Queue() for value in values}
        self.requests = {value: self._request(value, fields) for value in values}

    def _request(self, value: int, fields: dict[str, dict[int, Any]]) -> Request:
        own = {name: by_number[value] for name, by_number in fields.items() if value in by_number}
        return Request({"x": np.array([[value]])}, 1, self.answers[value].put, **own)

    def submit(self, it: Any) -> dict[int, Exception]:
        """Submits them together; returns the refused ones with their errors."""
        numbers = {request: value for value, request in self.requests.items()}
        return {numbers[request]: error for request, error in it.batcher.submit_all(list(self.requests.values()))}

    def answer(self, value: int) -> Any:
        answer = self.answers[value].get(timeout=20)
        return answer if isinstance(answer, Exception) else answer.outputs["y"].tolist()

    def all_answered_once(self) -> bool:
        """Returns whether no request has an answer but those that were taken."""
        return all(answers.empty() for answers in self.answers.values())


def test_requests_that_are_submitted_together_run_together_in_their_order(bench: Callable[..., Any]) -> None:
    it, group = bench(), Group(1, 2, 3)
    assert group.submit(it) == {}
    it.finish()
    assert it.session.runs == [[1, 2, 3]]
    assert [group.answer(value) for value in (1, 2, 3)] == [[[10]], [[20]], [[30]]]
    assert group.all_answered_once()


def test_an_empty_group_submits_nothing(bench: Callable[..., Any]) -> None:
    it = bench()
    assert it.batcher.submit_all([]) == ()


def test_what_finds_the_queue_full_is_refused_and_what_came_before_it_is_not(bench: Callable[..., Any]) -> None:
    it, group = bench(max_queue_size=3), Group(1, 2, 3, 4)
    it.occupy()
    waiting = it.submit(9)
    refused = group.submit(it)
    assert {value: type(error) for value, error in refused.items()} == {3: QueueFull, 4: QueueFull}
    assert str(refused[3]).startswith("m version 1: 3 requests wait")
    assert it.batcher.waiting == 3
    it.finish()
    assert it.session.runs == [[-1], [9, 1, 2]]
    assert (waiting.rows(), group.answer(1), group.answer(2)) == ([90], [[10]], [[20]])
    assert group.all_answered_once()


def test_each_is_refused_by_its_own_level_only(bench: Callable[..., Any]) -> None:
    it = bench(priority_levels=2, levels={1: QueuePolicy(1)})
    it.occupy()
    group = Group(1, 2, 3, priority={1: 1, 2: 1, 3: 2})
    assert list(group.submit(it)) == [2]
    it.finish()
    assert it.session.runs == [[-1], [1, 3]]


def test_one_whose_deadline_has_passed_is_dropped_and_its_mates_run(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    group = Group(1, 2, 3, deadline_s={2: time.monotonic(), 3: time.monotonic() + FOREVER_S})
    assert group.submit(it) == {}
    it.finish()
    assert it.session.runs == [[-1], [1, 3]]
    assert isinstance(group.answer(2), DeadlineExceeded)
    assert (group.answer(1), group.answer(3)) == ([[10]], [[30]])


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_first_deadline_of_several_is_met_while_the_session_runs(
    bench: Callable[..., Any], timer: Timer, first: int
) -> None:
    it = bench(batcher={"timer": timer})
    it.occupy()
    deadlines = {value: time.monotonic() + FOREVER_S for value in (1, 2, 3)} | {first: time.monotonic() + 0.01}
    group = Group(1, 2, 3, deadline_s=deadlines)
    assert group.submit(it) == {}
    assert isinstance(group.answer(first), DeadlineExceeded)
    assert it.batcher.waiting == 2


def test_timeouts_hold_for_each(bench: Callable[..., Any], timer: Timer) -> None:
    it = bench(batcher={"timer": timer})
    it.occupy()
    group = Group(1, 2, timeout_ns={2: 1})
    assert group.submit(it) == {}
    assert isinstance(group.answer(2), DeadlineExceeded)
    it.finish()
    assert group.answer(1) == [[10]]


def test_the_queues_own_timeout_holds_for_each(bench: Callable[..., Any], timer: Timer) -> None:
    it = bench(queue={"default_timeout_s": 0.01}, batcher={"timer": timer})
    it.occupy()
    group = Group(1, 2)
    assert group.submit(it) == {}
    assert [type(group.answer(value)) for value in (1, 2)] == [DeadlineExceeded] * 2


def test_one_whose_caller_left_before_is_answered_while_the_session_runs(bench: Callable[..., Any]) -> None:
    it, group = bench(), Group(1, 2, 3)
    it.occupy()
    group.requests[2].cancel()
    assert group.submit(it) == {}
    assert not group.answers[2].empty()
    assert isinstance(group.answer(2), Cancelled)
    it.finish()
    assert it.session.runs == [[-1], [1, 3]]
    assert group.answers[2].empty()


def test_one_whose_caller_leaves_is_answered_while_the_session_runs(bench: Callable[..., Any]) -> None:
    it, group = bench(), Group(1, 2, 3)
    it.occupy()
    assert group.submit(it) == {}
    group.requests[2].cancel()
    assert not group.answers[2].empty()
    assert isinstance(group.answer(2), Cancelled)
    it.finish()
    assert it.session.runs == [[-1], [1, 3]]


def test_one_that_is_refused_after_its_caller_left_gets_no_answer_besides(bench: Callable[..., Any]) -> None:
    it, group = bench(max_queue_size=1), Group(1, 2)
    it.occupy()
    group.requests[2].cancel()
    assert list(group.submit(it)) == [2]
    it.finish()
    assert group.answers[2].empty()


def test_a_batcher_that_drains_refuses_all(bench: Callable[..., Any]) -> None:
    it, group = bench(), Group(1, 2)
    it.finish()
    assert [type(error) for error in group.submit(it).values()] == [Unloading] * 2
    assert group.all_answered_once()


def test_a_batcher_whose_sessions_are_lost_refuses_all(bench: Callable[..., Any]) -> None:
    class Broken:
        def run(self, inputs: Any) -> Any:
            raise ValueError

    def fail(_: Any) -> None:
        raise ValueError

    is_broken = threading.Event()
    it = bench(instances=[Instance(Broken(), check=fail)], batcher={"on_broken": is_broken.set})
    for value in range(3):
        it.submit(value).answer()
    assert is_broken.wait(20)
    group = Group(1, 2)
    assert [type(error) for error in group.submit(it).values()] == [Unavailable] * 2


def test_each_is_judged_late_by_what_waits_before_it(bench: Callable[..., Any]) -> None:
    """A run takes 10 s whatever its rows, up to two, and one is in progress; a deadline leaves 29 s."""
    curve = LatencyCurve((1, 2), (10 * 10**9, 10 * 10**9))
    it = bench(2, batcher={"curve": curve})
    it.occupy()
    deadline_s = time.monotonic() + 29
    group = Group(*range(6), deadline_s=dict.fromkeys(range(5), deadline_s))
    # The last one is in no hurry.
    assert {number: type(error) for number, error in group.submit(it).items()} == {
        2: Overloaded,
        3: Overloaded,
        4: Overloaded,
    }
    it.finish()
    assert it.session.runs == [[-1], [0, 1], [5]]


def test_as_many_instances_wake_as_there_is_work_for(bench: Callable[..., Any]) -> None:
    it, group = bench(merge=False, instances=3), Group(1, 2, 3)
    # Until the threads sleep they need no waking.
    while it.batcher._scheduler._work.sleeping < 3:
        time.sleep(0.001)
    assert group.submit(it) == {}
    for _ in range(3):
        assert it.session.wait_until_running(timeout_s=10)
    it.finish()


def test_a_group_for_which_there_is_no_room_costs_the_greedy_sender_its_newest_requests(
    bench: Callable[..., Any],
) -> None:
    it = bench(4, max_queue_size=4)
    it.occupy()
    greedy = Group(1, 2, 3, 4, sender=dict.fromkeys((1, 2, 3, 4), "greedy"))
    assert greedy.submit(it) == {}
    polite = Group(5, 6, 7, sender=dict.fromkeys((5, 6, 7), "polite"))
    refused = polite.submit(it)
    assert [type(error) for error in refused.values()] == [QueueFull]
    assert list(refused) == [7]
    assert [type(greedy.answer(value)) for value in (3, 4)] == [QueueFull] * 2
    it.finish()
    assert it.session.runs[1:] == [[5, 1, 6, 2]]
    assert [greedy.answer(1), greedy.answer(2), polite.answer(5), polite.answer(6)] == [[[10]], [[20]], [[50]], [[60]]]
    assert greedy.all_answered_once()
    assert polite.all_answered_once()
