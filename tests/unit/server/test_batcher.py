"""The batcher merges requests, and each gets its own answer; tests hold and release the session."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.errors import Unavailable

PATIENCE_S = 20


def test_what_waits_while_a_batch_runs_is_merged_into_the_next(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    for value in (1, 2, 3):
        it.submit(value)
    it.finish()
    assert it.session.runs == [[-1], [1, 2, 3]]


def test_each_caller_gets_its_own_rows(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    sent = [it.submit(1), it.submit(2, 3, 4), it.submit(5, 6)]
    it.finish()
    assert it.session.runs[1] == [1, 2, 3, 4, 5, 6]
    assert [each.rows() for each in sent] == [[10], [20, 30, 40], [50, 60]]


def test_an_answer_says_how_many_rows_were_computed_together(bench: Callable[..., Any]) -> None:
    it = bench()
    first = it.occupy()
    sent = [it.submit(1), it.submit(2, 3)]
    it.finish()
    assert [each.answer().batch_rows for each in (first, *sent)] == [1, 3, 3]


@pytest.mark.parametrize(
    ("max_batch_size", "requests", "runs"),
    [
        pytest.param(4, [[1, 2], [3, 4], [5]], [[1, 2, 3, 4], [5]], id="filled exactly"),
        pytest.param(4, [[1, 2, 3], [4, 5]], [[1, 2, 3], [4, 5]], id="the one that would overflow is not split"),
        pytest.param(4, [[1, 2, 3], [4, 5], [6]], [[1, 2, 3], [4, 5, 6]], id="nor overtaken by one that would fit"),
        pytest.param(4, [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [5, 6, 7, 8]], id="each fills a batch"),
        pytest.param(1, [[1], [2]], [[1], [2]], id="room for one"),
    ],
)
def test_a_request_that_would_overflow_closes_the_batch(
    bench: Callable[..., Any], max_batch_size: int, requests: list[list[int]], runs: list[list[int]]
) -> None:
    it = bench(max_batch_size)
    it.occupy()
    sent = [it.submit(*values) for values in requests]
    it.finish()
    assert it.session.runs[1:] == runs
    assert [each.rows() for each in sent] == [[value * 10 for value in values] for values in requests]


def test_a_request_of_another_shape_closes_the_batch(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    sent = [it.submit(1), it.submit(2), it.submit(3, columns=2), it.submit(4)]
    it.finish()
    assert it.session.runs[1:] == [[1, 2], [3], [4]]
    assert [each.rows() for each in sent] == [[10], [20], [30], [40]]


def test_requests_are_not_merged_where_the_policy_says_so(bench: Callable[..., Any]) -> None:
    it = bench(merge=False)
    it.occupy()
    it.submit(1)
    it.submit(2, 3)
    it.finish()
    assert it.session.runs[1:] == [[1], [2, 3]]


def test_a_model_without_a_batch_dimension_gets_each_request_as_it_is(bench: Callable[..., Any]) -> None:
    it = bench(0, merge=False)
    it.session.outcome = lambda x: {"y": x.sum()}
    it.occupy()
    # Three rows along an axis that is not the batch's, and an output without any axis.
    sent = it.submit(1, 2, 3)
    sent.request.rows = 1
    it.finish()
    answer = sent.answer()
    assert isinstance(answer, Answer)
    assert answer.outputs["y"] == 6


def test_a_request_that_left_while_its_batch_ran_is_answered_like_the_others(bench: Callable[..., Any]) -> None:
    it = bench()
    first = it.occupy()
    first.request.cancelled = True
    it.finish()
    assert first.rows() == [-10]
    assert it.observer.dropped == []


def test_drain_finishes_what_was_accepted_and_refuses_the_rest(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a batch runs and two requests wait; 2. drain begins; 3. new requests are refused; 4. the batch ends,
    the two run; 5. drain ends."""
    it = bench(1)
    accepted = [it.occupy(), it.submit(1), it.submit(2)]
    assert not it.batcher.drain(timeout_s=0)
    with pytest.raises(Unavailable, match="m version 1 is being unloaded"):
        it.submit(3)
    it.session.let_go()
    assert it.batcher.drain(PATIENCE_S)
    assert [each.rows() for each in accepted] == [[-10], [10], [20]]


Answered = Callable[[object], None]


def _whose_caller_leaves(it: Any, on_done: Answered) -> Callable[[], object]:
    request = it.submit(1, on_done=on_done).request

    def leave() -> None:
        request.cancelled = True
        it.batcher.drop(request)

    return leave


def _that_expires(it: Any, on_done: Answered) -> Callable[[], object]:
    request = it.submit(1, on_done=on_done).request

    def expire() -> None:
        request.deadline_ns = 0
        it.batcher._expiry.expire()

    return expire


def _that_is_displaced(it: Any, on_done: Answered) -> Callable[[], object]:
    for value in (1, 2):
        it.submit(value, sender="greedy")
    it.submit(3, sender="greedy", on_done=on_done)
    return lambda: it.submit(4, sender="polite")


@pytest.mark.parametrize("one", [_whose_caller_leaves, _that_expires, _that_is_displaced])
def test_drain_waits_for_the_answer_of_a_request_that_leaves_without_a_run(
    bench: Callable[..., Any], one: Callable[[Any, Answered], Callable[[], object]]
) -> None:
    it = bench(max_queue_size=3)
    it.occupy()
    is_being_answered, may_end = threading.Event(), threading.Event()

    def answer(_: object) -> None:
        is_being_answered.set()
        assert may_end.wait(PATIENCE_S)

    thread = threading.Thread(target=one(it, answer))
    thread.start()
    assert is_being_answered.wait(PATIENCE_S)
    it.session.let_go()
    assert not it.batcher.drain(0.1)
    may_end.set()
    thread.join(PATIENCE_S)
    assert it.batcher.drain(PATIENCE_S)


def test_an_idle_batcher_drains_at_once(bench: Callable[..., Any]) -> None:
    assert bench().batcher.drain(PATIENCE_S)


def test_a_batcher_that_was_never_started_drains(held_session: Callable[[], Any]) -> None:
    policy = BatchingPolicy(8, True, QueuePolicy(1))
    batcher = Batcher("m", [Instance(held_session())], policy, None, lambda error: None)
    assert batcher.drain()


def test_the_observer_receives_every_run_and_its_requests(bench: Callable[..., Any]) -> None:
    it = bench(4)
    it.occupy()
    for values in ([1], [2, 3], [4, 5]):
        it.submit(*values)
    it.finish()
    assert [(record.rows, len(record.arrived_ns), record.failed) for record in it.observer.batches] == [
        (1, 1, False),
        (3, 2, False),
        (2, 1, False),
    ]


def test_the_phases_of_a_run_follow_one_another_behind_its_requests_arrivals(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    it.submit(1)
    it.submit(2)
    it.finish()
    for record in it.observer.batches:
        phases = [record.started_ns, record.assembled_ns, record.computed_ns, record.done_ns]
        assert phases == sorted(phases)
        assert max(record.arrived_ns) <= record.started_ns


def test_every_request_of_many_threads_gets_its_own_rows(bench: Callable[..., Any]) -> None:
    it = bench(16, max_queue_size=10_000)
    it.session.let_go(10_000)
    wrong: list[object] = []

    def send(start: int) -> None:
        for value in range(start, start + 200):
            values = [value] * (1 + value % 5)
            if (rows := it.submit(*values).rows()) != [value * 10] * len(values):
                wrong.append((value, rows))

    threads = [threading.Thread(target=send, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    it.finish()
    assert wrong == []
    assert sum(len(record.arrived_ns) for record in it.observer.batches) == 8 * 200
    assert sum(map(len, it.session.runs)) == sum(1 + value % 5 for value in range(200)) * 8


@pytest.mark.parametrize(
    ("requests", "padded"),
    [
        pytest.param([[1]], [1], id="one that fills a bucket"),
        pytest.param([[1, 2, 3]], [1, 2, 3, 0], id="one that does not"),
        pytest.param([[1, 2], [3]], [1, 2, 3, 0], id="two"),
        pytest.param([[1, 2, 3, 4], [5]], [1, 2, 3, 4, 5, 0, 0, 0], id="up to the largest"),
    ],
)
def test_a_batch_is_padded_with_zeros_to_its_bucket_and_no_caller_sees_them(
    bench: Callable[..., Any], requests: list[list[int]], padded: list[int]
) -> None:
    it = bench(buckets=(1, 4, 8))
    it.occupy()
    sent = [it.submit(*values) for values in requests]
    it.finish()
    assert it.session.runs == [[-1], padded]
    rows = sum(map(len, requests))
    assert [each.answer().batch_rows for each in sent] == [rows] * len(sent)
    record = it.observer.batches[-1]
    assert (record.rows, record.padding) == (rows, len(padded) - rows)
    # Else padding would be counted as predictions.
    assert [len(array) for array in record.outputs.values()] == [rows]


def test_answers_of_a_padded_batch_hold_their_own_rows_only(bench: Callable[..., Any]) -> None:
    it = bench(buckets=(8,))
    it.session.let_go()
    assert it.submit(1).rows() == [10]
    it.occupy()
    sent = [it.submit(1), it.submit(2, 3), it.submit(4)]
    it.finish()
    assert [each.rows() for each in sent] == [[10], [20, 30], [40]]
    assert all(len(run) == 8 for run in it.session.runs)


def test_a_run_without_buckets_is_not_padded(bench: Callable[..., Any]) -> None:
    it = bench()
    it.occupy()
    it.submit(1, 2, 3)
    it.finish()
    assert [len(run) for run in it.session.runs] == [1, 3]
    assert [record.padding for record in it.observer.batches] == [0, 0]


def test_strings_are_merged_and_padded_like_numbers(bench: Callable[..., Any]) -> None:
    it = bench(buckets=(1, 4))
    batches: list[Any] = []
    it.session.outcome = lambda x: batches.append(x) or {"y": x}
    it.occupy()
    answers: list[Any] = []
    for words in (["eins", "größer"], ["drei"]):
        rows = np.array(words, dtype=object)[:, None]
        it.batcher.submit(Request({"x": rows}, len(rows), answers.append))
    it.finish()
    assert batches[1].tolist() == [["eins"], ["größer"], ["drei"], [""]]
    assert [answer.outputs["y"].tolist() for answer in answers] == [[["eins"], ["größer"]], [["drei"]]]


# Four rows take as long as one, and more take as much longer as they are more.
BEST_IS_FOUR = LatencyCurve((1, 2, 4, 8), (1_000_000, 1_000_000, 1_000_000, 8_000_000))


def test_merging_stops_at_the_best_size_and_a_larger_request_is_taken_whole(bench: Callable[..., Any]) -> None:
    it = bench(limit_batches=True, batcher={"curve": BEST_IS_FOUR})
    assert it.batcher.limit == 4
    it.occupy()
    sent = [it.submit(value) for value in range(1, 6)]
    sent += [it.submit(6, 7, 8, 9, 10, 11), it.submit(12)]
    it.finish()
    assert it.session.runs[1:] == [[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 11], [12]]
    assert [row for each in sent for row in each.rows()] == [value * 10 for value in range(1, 13)]


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"limit_batches": False}, id="it is switched off"),
        pytest.param({"limit_batches": True, "preferred_batch_sizes": (8,)}, id="sizes chosen by the user"),
    ],
)
def test_merging_goes_beyond_the_best_size_where(bench: Callable[..., Any], policy: dict[str, Any]) -> None:
    it = bench(**policy, batcher={"curve": BEST_IS_FOUR})
    it.occupy()
    for value in range(1, 9):
        it.submit(value)
    it.finish()
    assert it.session.runs[1:] == [[1, 2, 3, 4, 5, 6, 7, 8]]


def test_the_curve_that_warming_measured_sets_the_limit(
    bench: Callable[..., Any], held_session: Callable[[], Any]
) -> None:
    instance = Instance(held_session(), warm=lambda session: BEST_IS_FOUR)
    it = bench(limit_batches=True, instances=[instance])
    assert it.batcher.curve is BEST_IS_FOUR
    assert it.batcher.limit == 4


def test_an_instance_is_warmed_on_the_thread_that_runs_it(
    bench: Callable[..., Any], held_session: Callable[[], Any]
) -> None:
    session, warmed_on = held_session(), []
    session.let_go()

    def warm(_: object) -> LatencyCurve:
        warmed_on.append(threading.current_thread())
        return BEST_IS_FOUR

    it = bench(instances=[Instance(session, warm=warm)])
    it.submit(1).rows()
    assert session.threads == warmed_on


def test_a_batcher_whose_warming_fails_raises_and_leaves_no_thread(held_session: Callable[[], Any]) -> None:
    def fail(_: object) -> LatencyCurve:
        raise MemoryError("too large")

    instances = [Instance(held_session()), Instance(held_session(), warm=fail)]
    policy = BatchingPolicy(8, True, QueuePolicy(1))
    batcher = Batcher("a model that cannot be warmed", instances, policy, None, lambda error: None)
    with pytest.raises(MemoryError, match="too large"):
        batcher.start()
    for thread in threading.enumerate():
        if "cannot be warmed" in thread.name:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
