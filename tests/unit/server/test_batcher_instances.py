"""Several instances of a model with one queue, and runs on the request's thread."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.errors import DeadlineExceeded, InternalError

PATIENCE_S = 20
FOREVER_S = 3600.0


def test_several_instances_draw_from_one_queue_and_compute_at_once(bench: Callable[..., Any]) -> None:
    """Timeline: 1. two runs are on their way, each with its own thread; 2. what comes waits for whichever ends first;
    3. drain waits for both."""
    it = bench(instances=2)
    running = [it.occupy(2), it.submit(1), it.submit(2)]
    assert len(set(it.session.threads)) == 2
    assert it.batcher.waiting == 2
    assert not it.batcher.drain(0)
    it.finish()
    assert [each.rows() for each in running] == [[-10], [10], [20]]
    assert it.session.runs == [[-1], [-1], [1, 2]]


def test_no_instance_is_handed_two_batches_at_once(bench: Callable[..., Any]) -> None:
    it = bench(1, instances=3)
    it.occupy(3)
    for value in range(5):
        it.submit(value)
    assert not it.session.wait_until_running(timeout_s=0.05)
    assert it.batcher.waiting == 5


def test_drain_waits_for_every_instance(bench: Callable[..., Any]) -> None:
    it = bench(1, instances=2)
    it.occupy(2)
    it.session.let_go(1)
    assert not it.batcher.drain(0.05)
    it.session.let_go(1)
    assert it.batcher.drain(PATIENCE_S)
    assert len(it.observer.batches) == 2


def answered_first_then_second(it: Any) -> list[int]:
    """Has two instances compute, the second request's run ending first; returns the order of the answers."""
    first_may_end, second_has_ended = threading.Event(), threading.Event()
    order: list[int] = []

    def outcome(x: Any) -> dict[str, Any]:
        if 1 in x:
            assert first_may_end.wait(PATIENCE_S)
        return {"y": x}

    it.session.outcome = outcome
    it.session.let_go()
    it.submit(1, on_done=lambda _: order.append(1))
    assert it.session.wait_until_running()
    it.submit(2, on_done=lambda _: order.append(2))
    assert it.session.wait_until_running()
    # The third goes to the instance that the second has left, so that one has finished.
    it.submit(3, on_done=lambda _: (order.append(3), second_has_ended.set()))
    assert it.session.wait_until_running()
    if it.batcher._workers._turnstile is None:
        assert second_has_ended.wait(PATIENCE_S)
    first_may_end.set()
    it.finish()
    return order


def test_answers_leave_when_they_are_there(bench: Callable[..., Any]) -> None:
    assert answered_first_then_second(bench(1, instances=2)) == [2, 3, 1]


def test_answers_leave_in_the_order_of_their_requests_where_it_is_preserved(bench: Callable[..., Any]) -> None:
    assert answered_first_then_second(bench(1, instances=2, preserve_ordering=True)) == [1, 2, 3]


def test_a_failed_batch_keeps_its_turn(bench: Callable[..., Any]) -> None:
    it = bench(1, instances=2, preserve_ordering=True)
    order: list[Any] = []

    def fail_on_two(x: Any) -> dict[str, Any]:
        if 2 in x:
            raise SystemExit
        return {"y": x}

    it.session.outcome = fail_on_two
    it.occupy(2)
    for value in (1, 2, 3):
        it.submit(value, on_done=lambda answer, value=value: order.append((value, type(answer) is InternalError)))
    it.finish()
    assert order == [(1, False), (2, True), (3, False)]
    assert it.observer.next_repair() == "a worker was restarted"


def curve(run_us: float) -> dict[str, Any]:
    return {"curve": LatencyCurve((8,), (int(run_us * 1000),))}


def test_a_request_that_comes_alone_is_computed_on_the_thread_that_brought_it(bench: Callable[..., Any]) -> None:
    it = bench(batcher=curve(299))
    it.session.let_go()
    sent = it.submit(1, may_run=True)
    assert sent.is_answered
    assert sent.rows() == [10]
    assert it.session.threads == [threading.current_thread()]


@pytest.mark.parametrize(
    ("may_run", "run_us", "policy"),
    [
        pytest.param(False, 299, {}, id="that thread has more to do"),
        pytest.param(True, 300, {}, id="it would take longer than handing it over is worth"),
        pytest.param(True, 299, {"max_queue_delay_s": 1e-6}, id="others may join it"),
        pytest.param(True, 299, {"run_on_arrival": False}, id="it is switched off"),
    ],
)
def test_a_request_is_handed_over_where(
    bench: Callable[..., Any], may_run: bool, run_us: float, policy: dict[str, Any]
) -> None:
    it = bench(batcher=curve(run_us), **policy)
    it.session.let_go()
    assert it.submit(1, may_run=may_run).rows() == [10]
    assert threading.current_thread() not in it.session.threads


@pytest.mark.parametrize(
    ("rows", "measured"),
    [
        pytest.param(1, {}, id="nothing was measured"),
        pytest.param(9, curve(267), id="more rows than were measured are expected to take too long"),
    ],
)
def test_a_request_is_handed_over_if_its_run_is_not_known_to_be_short(
    bench: Callable[..., Any], rows: int, measured: dict[str, Any]
) -> None:
    it = bench(16, batcher=measured)
    it.session.let_go()
    assert it.submit(*range(rows), may_run=True).rows() == [10 * value for value in range(rows)]
    assert threading.current_thread() not in it.session.threads


def test_a_request_waits_its_turn_where_the_instance_is_busy(bench: Callable[..., Any]) -> None:
    it = bench(batcher=curve(1))
    it.occupy()
    sent = it.submit(1, may_run=True)
    assert not sent.is_answered
    it.finish()
    assert sent.rows() == [10]
    assert threading.current_thread() not in it.session.threads


def test_a_request_that_finds_another_waiting_is_not_computed_in_front_of_it(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a request waits, though the instance is idle, since no thread runs yet; 2. another comes that might
    run; 3. both run together, on the batcher's thread."""
    it = bench(batcher=curve(1), is_started=False)
    it.session.let_go()
    sent = [it.submit(1), it.submit(2, may_run=True)]
    assert it.session.runs == []
    it.batcher.start()
    assert [each.rows() for each in sent] == [[10], [20]]
    assert it.session.runs == [[1, 2]]
    assert threading.current_thread() not in it.session.threads


def test_requests_that_come_while_another_thread_computes_are_handed_over(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a thread brings a request and computes it; 2. another comes; 3. the first run ends, and a thread of
    the batcher takes over."""
    it = bench(batcher=curve(1))
    bringing = threading.Thread(target=it.submit, args=(1,), kwargs={"may_run": True})
    bringing.start()
    assert it.session.wait_until_running()
    waiting = it.submit(2, may_run=True)
    assert not waiting.is_answered
    assert not it.batcher.drain(0)
    it.session.let_go()
    assert waiting.rows() == [20]
    bringing.join(PATIENCE_S)
    assert it.session.threads[0] is bringing
    assert it.session.threads[1] is not bringing


@pytest.mark.parametrize("end", [RuntimeError, SystemExit, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_a_session_that_ends_the_arriving_threads_run_costs_its_request_only(
    bench: Callable[..., Any], end: type[BaseException]
) -> None:
    it = bench(batcher=curve(1))
    it.session.let_go()

    def fail_once(_: Any) -> Any:
        it.session.outcome = lambda x: {"y": x * 10}
        raise end

    it.session.outcome = fail_once
    failing = it.submit(1, may_run=True)
    assert failing.is_answered
    assert isinstance(failing.answer(), InternalError)
    assert it.submit(2, may_run=True).rows() == [20]
    assert set(it.session.threads) == {threading.current_thread()}


def test_an_expired_request_is_not_computed_on_the_thread_that_brought_it(bench: Callable[..., Any]) -> None:
    it = bench(batcher=curve(1))
    for limits in ({"deadline_s": time.monotonic() - FOREVER_S}, {"timeout_ns": 1, "arrived_ns": 0}):
        assert isinstance(it.submit(1, may_run=True, **limits).answer(), DeadlineExceeded)
    assert it.session.runs == []


def test_drain_waits_for_a_run_on_the_thread_that_brought_it(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a thread brings a request and computes it; 2. drain begins, and the batcher's own threads end; 3.
    the run ends, and with it drain."""
    it = bench(batcher=curve(1))
    bringing = threading.Thread(target=it.submit, args=(1,), kwargs={"may_run": True})
    bringing.start()
    assert it.session.wait_until_running()
    assert not it.batcher.drain(0.05)
    it.session.let_go()
    assert it.batcher.drain(PATIENCE_S)
    assert it.sent[0].is_answered
    bringing.join(PATIENCE_S)
