"""The batcher's promises, with a session that a test holds and lets go."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    QueueFull,
    RequestError,
    Unavailable,
)

# Longer than anything here takes; a test that runs into it has failed.
PATIENCE_S = 20
FOREVER_S = 3600.0


class HeldSession:
    """Multiplies by ten, one run for each time it is let go."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        """The first column of every run's input."""
        self.outcome: Callable[[Any], Mapping[str, Any]] = lambda x: {"y": x * 10}
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        self._entered.release()
        assert self._gate.acquire(timeout=PATIENCE_S)
        return self.outcome(inputs["x"])

    def wait_until_running(self, timeout_s: float = PATIENCE_S) -> bool:
        return self._entered.acquire(timeout=timeout_s)

    def let_go(self, runs: int = 1000) -> None:
        self._gate.release(runs)


@dataclass
class Recorder:
    """Keeps what a batcher told."""

    batches: list[BatchRecord] = field(default_factory=list)
    dropped: list[RequestError] = field(default_factory=list)

    def on_batch(self, record: BatchRecord) -> None:
        self.batches.append(record)

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self.dropped.append(error)

    def on_worker_restarted(self) -> None:
        raise AssertionError("no thread may die here")

    def on_session_rebuilt(self) -> None:
        raise AssertionError("no session is to be rebuilt here")


class Sent:
    """A submitted request and the answers that it got."""

    def __init__(self, request: Request, answers: "queue.Queue[Answer | RequestError]") -> None:
        self.request = request
        self.answers = answers

    def answer(self) -> Answer | RequestError:
        return self.answers.get(timeout=PATIENCE_S)

    def rows(self) -> list[int]:
        answer = self.answer()
        assert isinstance(answer, Answer), answer
        return answer.outputs["y"].reshape(len(answer.outputs["y"]), -1)[:, 0].tolist()


@dataclass
class Bench:
    """A started batcher, and everything around it."""

    batcher: Batcher
    session: HeldSession
    observer: Recorder
    failures: list[BaseException]
    sent: list[Sent] = field(default_factory=list)

    def submit(self, *values: int, columns: int = 1, **fields: Any) -> Sent:
        """Submits a request with one row for each value."""
        answers: queue.Queue[Answer | RequestError] = queue.Queue()
        x = np.repeat(np.array(values, dtype=np.int64)[:, None], columns, axis=1)
        request = Request({"x": x}, len(values), fields.pop("on_done", answers.put), **fields)
        self.batcher.submit(request)
        self.sent.append(Sent(request, answers))
        return self.sent[-1]

    def occupy(self) -> Sent:
        """Has the session running, so that whatever is submitted next waits."""
        first = self.submit(-1)
        assert self.session.wait_until_running()
        return first

    def finish(self) -> None:
        """Lets every run go and waits until all that was accepted is answered and observed."""
        self.session.let_go()
        assert self.batcher.drain(PATIENCE_S)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Starts batchers, by policy, and drains them after the test: then each request must have had one answer."""
    benches: list[Bench] = []

    def start(
        max_batch_size: int = 8, *, merge: bool = True, max_queue_size: int = 100, max_queue_delay_s: float = 0.0
    ) -> Bench:
        session, observer, failures = HeldSession(), Recorder(), []
        policy = BatchingPolicy(max_batch_size, merge, QueuePolicy(max_queue_size), max_queue_delay_s)
        batcher = Batcher("m version 1", [Instance(session)], policy, observer, failures.append)
        batcher.start()
        benches.append(Bench(batcher, session, observer, failures))
        return benches[-1]

    yield start
    for each in benches:
        each.finish()
        assert each.batcher.waiting == 0
        # What a test has taken is gone; nothing may be there twice.
        assert all(sent.answers.qsize() <= 1 for sent in each.sent)


def test_what_waits_while_a_batch_runs_is_merged_into_the_next(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    for value in (1, 2, 3):
        it.submit(value)
    it.finish()
    assert it.session.runs == [[-1], [1, 2, 3]]


def test_each_caller_gets_its_own_rows(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    sent = [it.submit(1), it.submit(2, 3, 4), it.submit(5, 6)]
    it.finish()
    assert it.session.runs[1] == [1, 2, 3, 4, 5, 6]
    assert [each.rows() for each in sent] == [[10], [20, 30, 40], [50, 60]]


def test_an_answer_says_how_many_rows_were_computed_together(bench: Callable[..., Bench]) -> None:
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
    bench: Callable[..., Bench], max_batch_size: int, requests: list[list[int]], runs: list[list[int]]
) -> None:
    it = bench(max_batch_size)
    it.occupy()
    sent = [it.submit(*values) for values in requests]
    it.finish()
    assert it.session.runs[1:] == runs
    assert [each.rows() for each in sent] == [[value * 10 for value in values] for values in requests]


def test_a_request_of_another_shape_closes_the_batch(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    sent = [it.submit(1), it.submit(2), it.submit(3, columns=2), it.submit(4)]
    it.finish()
    assert it.session.runs[1:] == [[1, 2], [3], [4]]
    assert [each.rows() for each in sent] == [[10], [20], [30], [40]]


def test_requests_are_not_merged_where_the_policy_says_so(bench: Callable[..., Bench]) -> None:
    it = bench(merge=False)
    it.occupy()
    it.submit(1)
    it.submit(2, 3)
    it.finish()
    assert it.session.runs[1:] == [[1], [2, 3]]


def test_a_model_without_a_batch_dimension_gets_each_request_as_it_is(bench: Callable[..., Bench]) -> None:
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


def test_an_expired_request_is_dropped_and_its_mates_run(bench: Callable[..., Bench]) -> None:
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


def test_a_cancelled_request_is_dropped_and_its_mates_run(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    cancelled, mate = it.submit(1), it.submit(2)
    cancelled.request.cancelled = True
    it.finish()
    assert it.session.runs[1:] == [[2]]
    assert isinstance(cancelled.answer(), Cancelled)
    assert mate.rows() == [20]
    assert [type(error) for error in it.observer.dropped] == [Cancelled]


def test_a_dropped_request_makes_room_in_the_batch(bench: Callable[..., Bench]) -> None:
    it = bench(2)
    it.occupy()
    it.submit(1, 2, deadline_s=time.monotonic())
    it.submit(3)
    it.submit(4)
    it.finish()
    assert it.session.runs[1:] == [[3, 4]]


def test_a_queue_of_nothing_but_dropped_requests_runs_nothing(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    expired = [it.submit(value, deadline_s=time.monotonic()) for value in (1, 2)]
    it.finish()
    assert it.session.runs == [[-1]]
    assert all(isinstance(each.answer(), DeadlineExceeded) for each in expired)


def test_a_request_that_left_while_its_batch_ran_is_answered_like_the_others(bench: Callable[..., Bench]) -> None:
    it = bench()
    first = it.occupy()
    first.request.cancelled = True
    it.finish()
    assert first.rows() == [-10]
    assert it.observer.dropped == []


def test_a_full_queue_refuses_at_once_and_takes_requests_again_when_it_has_room(bench: Callable[..., Bench]) -> None:
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
    # As in Triton, nobody counts what was never accepted.
    assert it.observer.dropped == []


def test_a_failing_session_fails_its_batch_and_no_other(bench: Callable[..., Bench]) -> None:
    """Timeline: 1. a batch runs; 2. two requests merge into the next, which fails; 3. a third runs as ever."""
    it = bench()
    it.occupy()
    failing = [it.submit(1), it.submit(2)]
    trouble = RuntimeError("secret: out of memory at 0x1234")

    def fail_once(x: Any) -> Any:
        it.session.outcome = lambda x: {"y": x * 10}
        raise trouble

    it.session.let_go(1)
    assert it.session.wait_until_running()
    it.session.outcome = fail_once
    after = it.submit(3)
    it.finish()
    errors = [each.answer() for each in failing]
    assert [type(error) for error in errors] == [InternalError, InternalError]
    assert all("secret" not in str(error) for error in errors)
    assert after.rows() == [30]
    assert it.failures == [trouble]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda x: x[:1], id="too few rows"),
        pytest.param(lambda x: np.concatenate([x, x]), id="too many rows"),
        pytest.param(lambda x: x.sum(), id="no rows at all"),
    ],
)
def test_outputs_that_cannot_be_told_apart_fail_the_batch(
    bench: Callable[..., Bench], spoil: Callable[[Any], Any]
) -> None:
    it = bench()
    it.occupy()
    mates = [it.submit(1), it.submit(2)]
    it.session.let_go(1)
    assert it.session.wait_until_running()
    it.session.outcome = lambda x: {"y": spoil(x)}
    it.finish()
    assert all(isinstance(each.answer(), InternalError) for each in mates)
    assert [type(failure) for failure in it.failures] == [ValueError]
    assert [record.failed for record in it.observer.batches] == [False, True]


def test_a_caller_that_cannot_be_answered_strands_nobody(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    trouble = ConnectionError("gone")

    def refuse(_: object) -> None:
        raise trouble

    it.submit(1, on_done=refuse)
    it.submit(2, deadline_s=time.monotonic(), on_done=refuse)
    mate = it.submit(3)
    it.session.let_go()
    assert mate.rows() == [30]
    assert it.submit(4).rows() == [40]
    assert it.failures == [trouble, trouble]


def test_drain_finishes_what_was_accepted_and_refuses_the_rest(bench: Callable[..., Bench]) -> None:
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


def test_an_idle_batcher_drains_at_once(bench: Callable[..., Bench]) -> None:
    assert bench().batcher.drain(PATIENCE_S)


def test_a_batcher_that_was_never_started_drains() -> None:
    policy = BatchingPolicy(8, True, QueuePolicy(1))
    batcher = Batcher("m", [Instance(HeldSession())], policy, Recorder(), lambda error: None)
    assert batcher.drain()


def test_the_queue_delay_waits_for_company_and_runs_when_the_batch_is_full(bench: Callable[..., Bench]) -> None:
    it = bench(3, max_queue_delay_s=FOREVER_S)
    sent = [it.submit(1)]
    # The one place that waits for nothing to happen; a batcher that does not wait fails here or below.
    assert not it.session.wait_until_running(timeout_s=0.05)
    sent += [it.submit(2), it.submit(3)]
    assert it.session.wait_until_running()
    assert it.session.runs == [[1, 2, 3]]


def test_the_queue_delay_ends_and_the_request_runs_alone(bench: Callable[..., Bench]) -> None:
    it = bench(max_queue_delay_s=0.001)
    it.session.let_go()
    assert it.submit(1).rows() == [10]


def test_the_queue_delay_counts_from_the_arrival_of_the_oldest(bench: Callable[..., Bench]) -> None:
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
    bench: Callable[..., Bench], first: dict[str, Any], second: dict[str, Any]
) -> None:
    it = bench(3, max_queue_delay_s=FOREVER_S)
    it.session.let_go()
    sent = it.submit(*first.pop("values"), **first)
    it.submit(*second.pop("values"), **second)
    sent.rows()
    assert len(it.session.runs) == 1


def test_drain_does_not_wait_out_the_queue_delay(bench: Callable[..., Bench]) -> None:
    it = bench(max_queue_delay_s=FOREVER_S)
    sent = it.submit(1)
    it.finish()
    assert sent.rows() == [10]


def test_there_is_no_queue_delay_where_nothing_is_merged(bench: Callable[..., Bench]) -> None:
    it = bench(merge=False, max_queue_delay_s=FOREVER_S)
    it.session.let_go()
    assert it.submit(1).rows() == [10]


def test_the_observer_is_told_of_every_run_and_its_requests(bench: Callable[..., Bench]) -> None:
    it = bench(4)
    it.occupy()
    for values in ([1], [2, 3], [4, 5]):
        it.submit(*values)
    it.finish()
    assert [(record.rows, len(record.request_ns), record.failed) for record in it.observer.batches] == [
        (1, 1, False),
        (3, 2, False),
        (2, 1, False),
    ]


def test_the_phases_of_a_run_lie_within_its_requests_time(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.occupy()
    it.submit(1)
    it.submit(2)
    it.finish()
    for record in it.observer.batches:
        phases_ns = record.input_ns + record.infer_ns + record.output_ns
        assert min(record.input_ns, record.infer_ns, record.output_ns, *record.queue_ns) >= 0
        for request_ns, queue_ns in zip(record.request_ns, record.queue_ns, strict=True):
            assert queue_ns + phases_ns == request_ns


def test_the_observer_is_told_of_a_failed_run(bench: Callable[..., Bench]) -> None:
    it = bench()

    def fail(_: Any) -> Any:
        raise RuntimeError

    it.session.outcome = fail
    it.occupy()
    it.finish()
    assert [(record.failed, len(record.request_ns)) for record in it.observer.batches] == [(True, 1)]


def test_every_request_of_many_threads_gets_its_own_rows(bench: Callable[..., Bench]) -> None:
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
    assert sum(len(record.request_ns) for record in it.observer.batches) == 8 * 200
    assert sum(map(len, it.session.runs)) == sum(1 + value % 5 for value in range(200)) * 8
