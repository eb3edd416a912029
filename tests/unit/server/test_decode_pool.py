"""The decoding pool: bounded in requests and memory, fair, and intact after errors."""

import threading
import time
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError, Unavailable
from pixelserve_server.failures import FailureLog
from pixelserve_server.imaging.fair import Step
from pixelserve_server.imaging.pool import DecodePool

TIMEOUT_S = 30


class Clock:
    """A clock, and a timer that runs due calls on request."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.due: tuple[int, Callable[[], object]] | None = None

    def __call__(self) -> float:
        return self.now_s

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        self.due = when_ns, function

    def move_to(self, now_s: float) -> None:
        self.now_s = now_s
        if self.due is not None and self.due[0] <= now_s * 1e9 + 1:
            (_, function), self.due = self.due, None
            function()


class Job:
    """Work of several steps, each of which says that it runs and waits until it may go on."""

    def __init__(
        self,
        sender: Hashable = None,
        steps: int = 1,
        *,
        cost: int = 10,
        size_bytes: int = 1,
        deadline_s: float | None = None,
        log: list[Any] | None = None,
    ) -> None:
        self.sender, self.deadline_s, self.is_over = sender, deadline_s, False
        self.first = Step(cost, cost * steps, size_bytes)
        self._left = steps
        self._log = [] if log is None else log
        self.runs, self.may_go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = threading.Event()
        self.steps = 0
        self.errors: list[RequestError] = []
        self.raises: BaseException | None = None

    def run(self) -> Step | None:
        self.runs.release()
        assert self.may_go_on.acquire(timeout=TIMEOUT_S)
        self.steps += 1
        self._log.append(self.sender)
        self._left -= 1
        if self.raises is not None:
            raise self.raises
        if self._left:
            return Step(self.first.cost, self.first.cost * self._left, self.first.bytes)
        self.ended.set()
        return None

    def drop(self, error: RequestError) -> None:
        self.errors.append(error)
        self.ended.set()

    def wait_until_running(self) -> None:
        assert self.runs.acquire(timeout=TIMEOUT_S)

    def finish(self) -> None:
        finish(self)


def finish(*jobs: Job) -> None:
    """Lets jobs run to their ends, in whatever order the pool chooses."""
    for job in jobs:
        job.may_go_on.release(100)
    for job in jobs:
        assert job.ended.wait(TIMEOUT_S)


class Pools:
    """Makes pools, and stops them in the end."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.logged: list[BaseException] = []
        self._made: list[DecodePool] = []

    def make(self, threads: int = 1, max_waiting: int = 10, max_bytes: int = 100) -> DecodePool:
        log = SimpleNamespace(error=lambda _, exc_info, **fields: self.logged.append(exc_info))
        timer: Any = self.clock
        pool = DecodePool(threads, max_waiting, max_bytes, FailureLog(log), timer, self.clock)
        self._made.append(pool)
        return pool

    def stop(self) -> None:
        for pool in self._made:
            pool.stop(0)


@pytest.fixture
def pools() -> Any:
    made = Pools()
    yield made
    made.stop()


def busy(pool: DecodePool, **fields: Any) -> Job:
    """Returns a job that keeps a thread of the pool."""
    job = Job("busy", **fields)
    pool.submit(job)
    job.wait_until_running()
    return job


def test_a_full_pool_refuses_at_once_and_does_what_it_took(pools: Pools) -> None:
    """Timeline: 1. a job holds the only thread and one waits; 2. a third is refused; 3. both end; 4. one more runs."""
    pool = pools.make(max_waiting=1)
    first, second, third, fourth = (Job() for _ in range(4))
    pool.submit(first)
    first.wait_until_running()
    pool.submit(second)
    with pytest.raises(QueueFull, match="wait for their pictures"):
        pool.submit(third)
    first.finish()
    second.finish()
    assert (third.steps, third.errors) == (0, [])
    while True:
        try:
            pool.submit(fourth)
            break
        except QueueFull:
            # The one before is just leaving.
            continue
    fourth.finish()


def test_in_a_full_pool_a_sender_of_many_requests_makes_room_for_another(pools: Pools) -> None:
    pool = pools.make(max_waiting=2)
    running = busy(pool)
    jobs = [Job("busy", cost=20), Job("busy", cost=10)]
    for each in jobs:
        pool.submit(each)
    polite = Job("polite")
    pool.submit(polite)
    assert [type(each) for each in jobs[0].errors] == [QueueFull]
    assert not jobs[1].errors
    # Now the sender with the most has one more than this one.
    with pytest.raises(QueueFull):
        pool.submit(Job("polite"))
    finish(running, jobs[1], polite)


def test_a_small_request_waits_for_one_picture_and_not_for_the_requests_before_it(pools: Pools) -> None:
    pool = pools.make()
    log: list[Any] = []
    large = [Job(f"large {number}", 64, cost=1000, log=log) for number in range(8)]
    for each in large:
        pool.submit(each)
    large[0].wait_until_running()
    small = Job("small", cost=1, log=log)
    pool.submit(small)
    small.may_go_on.release()
    large[0].may_go_on.release()
    assert small.ended.wait(TIMEOUT_S)
    assert log == ["large 0", "small"]
    finish(*large)


def test_memory_is_taken_before_it_is_spent_and_given_back(pools: Pools) -> None:
    pool = pools.make(threads=3, max_bytes=100)
    one, two, three = (Job(name, size_bytes=60, cost=10) for name in "abc")
    small = Job("small", size_bytes=40, cost=10)
    for each in (one, two, three, small):
        pool.submit(each)
    one.wait_until_running()
    small.wait_until_running()
    # A thread is free, and no memory.
    assert not two.runs.acquire(blocking=False)
    assert not three.runs.acquire(blocking=False)
    one.finish()
    two.wait_until_running()
    assert not three.runs.acquire(blocking=False)
    finish(two, three, small)


def test_a_step_that_takes_more_than_all_memory_runs_alone(pools: Pools) -> None:
    pool = pools.make(threads=2, max_bytes=100)
    large, other = Job("large", size_bytes=1000, cost=1), Job("other", cost=5)
    pool.submit(large)
    large.wait_until_running()
    pool.submit(other)
    assert not other.runs.acquire(blocking=False)
    large.finish()
    other.finish()


def test_work_that_is_dropped_while_it_waits_is_answered_at_once_and_frees_its_place(pools: Pools) -> None:
    pool = pools.make(max_waiting=1)
    running, waiting = busy(pool), Job()
    pool.submit(waiting)
    pool.drop(waiting, Cancelled("left"))
    assert [str(error) for error in waiting.errors] == ["left"]
    pool.drop(waiting, Cancelled("again"))
    last = Job()
    pool.submit(last)
    finish(running, last)
    assert (waiting.steps, len(waiting.errors)) == (0, 1)


def test_work_that_is_dropped_while_it_runs_ends_after_that_step(pools: Pools) -> None:
    pool = pools.make()
    running = busy(pool, steps=5)
    pool.drop(running, Cancelled("left"))
    assert not running.errors
    running.finish()
    assert (running.steps, [str(error) for error in running.errors]) == (1, ["left"])


def test_work_that_is_over_before_it_comes_is_not_taken(pools: Pools) -> None:
    pool, job = pools.make(), Job()
    job.is_over = True
    with pytest.raises(Cancelled):
        pool.submit(job)


def test_a_deadline_that_passes_drops_what_waits_while_every_thread_is_busy(pools: Pools) -> None:
    pool = pools.make()
    running = busy(pool)
    late, later, without = Job(deadline_s=1.0), Job(deadline_s=2.0), Job()
    for each in (later, late, without):
        pool.submit(each)
    pools.clock.move_to(1.0)
    assert [type(error) for error in late.errors] == [DeadlineExceeded]
    assert not later.errors
    pools.clock.move_to(2.0)
    assert [type(error) for error in later.errors] == [DeadlineExceeded]
    running.finish()
    without.finish()
    assert without.errors == []


def test_a_deadline_that_passes_while_a_step_runs_ends_the_work_after_it(pools: Pools) -> None:
    pool = pools.make()
    job = Job(steps=5, deadline_s=1.0)
    pool.submit(job)
    job.wait_until_running()
    pools.clock.move_to(1.5)
    assert job.errors == []
    job.finish()
    assert (job.steps, [type(error) for error in job.errors]) == (1, [DeadlineExceeded])


def test_late_work_is_dropped_when_its_step_ends_and_not_when_its_turn_would_come(pools: Pools) -> None:
    pool = pools.make()
    late = Job("late", steps=5, cost=100, deadline_s=1.0)
    pool.submit(late)
    late.wait_until_running()
    pools.clock.move_to(1.5)
    small = Job("small", cost=1)
    pool.submit(small)
    late.may_go_on.release()
    small.wait_until_running()
    # Sooner than the small one gives up.
    assert late.ended.wait(TIMEOUT_S / 3)
    small.finish()


@pytest.mark.parametrize("raised", [ValueError("broken"), SystemExit("broken")], ids=["an exception", "an exit"])
def test_work_that_raises_is_logged_dropped_and_affects_no_one_else(pools: Pools, raised: BaseException) -> None:
    pool = pools.make(max_waiting=0)
    for _ in range(3):
        broken = Job()
        broken.raises = raised
        while True:
            try:
                pool.submit(broken)
                break
            except QueueFull:
                # The one before is just ending.
                continue
        broken.finish()
        assert [type(error) for error in broken.errors] == [InternalError]
    assert [str(error) for error in pools.logged] == ["broken"] * 3


def test_work_that_no_thread_can_be_started_for_is_refused_and_the_next_is_tried(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, job, start = pools.make(threads=2), Job(), threading.Thread.start
    left = [0]

    def start_few(thread: threading.Thread) -> None:
        if thread.name.startswith("decode"):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    with pytest.raises(QueueFull, match="no thread can be started"):
        pool.submit(job)
    # One is enough.
    left[0] = 1
    pool.submit(job)
    finish(job)
    assert (job.errors, job.steps) == ([], 1)
    assert pool.stop(time.monotonic() + TIMEOUT_S)


def test_stopping_drops_what_waits_at_once_and_does_not_wait_for_a_picture_that_never_ends(pools: Pools) -> None:
    pool = pools.make()
    hanging = busy(pool, steps=3)
    waiting = Job()
    pool.submit(waiting)
    assert not pool.stop(0)
    assert [type(error) for error in waiting.errors] == [Unavailable]
    with pytest.raises(Unavailable):
        pool.submit(Job())
    hanging.finish()
    assert (hanging.steps, [type(error) for error in hanging.errors]) == (1, [Unavailable])
    assert pool.stop(time.monotonic() + TIMEOUT_S)


def test_stopping_a_pool_that_never_worked_is_done_at_once(pools: Pools) -> None:
    assert pools.make().stop(0)
