"""The engine's threads: correct wake-ups, and threads that fail or do not start."""

import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from virtual_time import Task, World, wakeups

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Request
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import Unloading
from pixelserve_server.supervised import Supervisor

PATIENCE_S = 20
SILENT = SimpleNamespace(
    on_batch=lambda _: None,
    on_dropped=lambda *_: None,
    on_worker_restarted=lambda: None,
    on_session_rebuilt=lambda: None,
)


class Failing:
    def run(self, inputs: Any) -> Any:
        raise ValueError


@pytest.mark.parametrize("seed", range(20))
def test_a_wake_up_for_a_worker_does_not_reach_a_drain(seed: int) -> None:
    """Timeline: 1. a request is computed on the thread that brought it, with the only session; 2. another waits, and
    the worker sleeps; 3. a drain begins, and sleeps; 4. the run fails for the third time, and while its session is
    checked, both have time to wake and sleep again; 5. it is given back: the worker is woken, not the drain."""
    world, answers = World(seed), list[Any]()
    instance = Instance[Any](Failing(), check=lambda _: world.pass_time(10**9))
    instance._failures = 2
    batcher = Batcher(
        "m",
        [instance],
        BatchingPolicy(8, True, QueuePolicy(8)),
        SILENT,
        lambda _: "id",
        curve=LatencyCurve((1,), (1,)),
        clock_ns=world.clock_ns,
        wakeups=wakeups(world),
    )
    scheduler, workers = batcher._scheduler, batcher._workers

    def work() -> None:
        while (run := workers.take(instance)) is not None:
            workers.execute(run)
        scheduler.leave()

    drained: list[bool] = []
    scheduler.join()
    first, second = (Request({"x": np.zeros((1, 1))}, 1, answers.append, arrived_ns=0) for _ in range(2))
    run = scheduler.submit(first, may_run=True)
    assert run is not None
    batcher.submit(second)
    Task(world, work)
    world.run()
    scheduler.close()
    Task(world, lambda: drained.append(scheduler.wait_until_idle(None)))
    world.run()
    assert (answers, drained) == ([], [])
    workers.execute(run)
    world.run()
    assert (len(answers), drained) == (2, [True])


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Limits the number of further threads."""

    def allow(count: int) -> None:
        start, left = threading.Thread.start, [count]

        def start_or_refuse(thread: threading.Thread) -> None:
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_refuse)

    return allow


@pytest.mark.parametrize("started", [0, 1, 2])
def test_a_batcher_whose_threads_cannot_all_be_started_ends(
    bench: Callable[..., Any], few_threads: Callable[[int], None], started: int
) -> None:
    it = bench(instances=3, is_started=False)
    few_threads(started)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        it.batcher.start()
    # Nothing is left waiting, and nothing is accepted that no thread would answer.
    assert it.batcher.drain(PATIENCE_S)
    with pytest.raises(Unloading):
        it.submit(1)


def test_a_model_needs_no_new_thread_once_it_serves(
    bench: Callable[..., Any], few_threads: Callable[[int], None]
) -> None:
    it = bench()
    few_threads(0)
    it.session.let_go()

    def die_once(_: Any) -> Any:
        it.session.outcome = lambda x: {"y": x * 10}
        raise SystemExit

    it.session.outcome = die_once
    it.submit(1).answer()
    assert it.observer.next_repair() == "a worker was restarted"
    assert it.submit(2).rows() == [20]
    it.finish()


def test_a_worker_whose_own_code_fails_starts_again(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    down: queue.Queue[tuple[str, ...]] = queue.Queue()
    supervisor = Supervisor(lambda _: "id", lambda: down.put(supervisor.down), pause_s=0)  # type: ignore[arg-type]
    it = bench(batcher={"supervisor": supervisor})
    it.session.let_go()
    scheduler = it.batcher._scheduler
    take = scheduler.take

    def fail_once(own: Any) -> Any:
        monkeypatch.setattr(scheduler, "take", take)
        taken = take(own)
        scheduler._queue.push(taken[0].requests[0])
        scheduler._free.append(own)
        scheduler._running -= 1
        raise MemoryError

    # The thread is within `take`, so this is met at the next one.
    monkeypatch.setattr(scheduler, "take", fail_once)
    assert it.submit(1).rows() == [10]
    assert it.submit(2).rows() == [20]
    assert [down.get(timeout=PATIENCE_S) for _ in range(2)] == [("batcher m version 1",), ()]
    assert it.observer.next_repair() == "a worker was restarted"
    it.finish()


@pytest.mark.parametrize("error", [KeyError("trouble"), SystemExit(), KeyboardInterrupt()], ids=repr)
def test_a_timer_outlives_whatever_a_function_raises(error: BaseException) -> None:
    failures: queue.Queue[BaseException] = queue.Queue()
    called = threading.Event()

    def fail() -> None:
        raise error

    timer = Timer(failures.put)  # type: ignore[arg-type]
    timer.start()
    timer.at(0, fail)
    assert failures.get(timeout=PATIENCE_S) is error
    timer.at(time.monotonic_ns(), called.set)
    assert called.wait(PATIENCE_S)
    timer.close()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit], ids=lambda error: error.__name__)
@pytest.mark.parametrize("event", ["on_batch", "on_dropped", "on_worker_restarted", "on_session_rebuilt"])
def test_an_observer_that_raises_anything_costs_nothing(
    bench: Callable[..., Any], event: str, error: type[BaseException]
) -> None:
    it = bench(1, instances=[Instance(Failing(), check=lambda _: [][0], rebuild=Failing)])

    def fail(*_: object) -> None:
        raise error

    setattr(it.observer, event, fail)
    sent = [it.submit(value) for value in range(7)]
    sent.append(it.submit(9, deadline_s=0.0))
    for each in sent:
        each.answer()
    it.finish()
    it.observer.repairs.queue.clear()


@pytest.mark.parametrize("error", [ConnectionError, SystemExit], ids=lambda error: error.__name__)
def test_a_caller_that_raises_anything_strands_no_other(bench: Callable[..., Any], error: type[BaseException]) -> None:
    it = bench()
    it.occupy()

    def refuse(_: object) -> None:
        raise error

    it.submit(1, on_done=refuse)
    mate = it.submit(2)
    it.finish()
    assert mate.rows() == [20]
    assert [type(failure) for failure in it.failures] == [error]


def test_answers_that_cannot_be_made_together_are_errors_for_those_without_one(bench: Callable[..., Any]) -> None:
    """Timeline: 1. a run of three requests is computed; 2. what answers them raises after the first."""

    class Together(Request):
        @staticmethod
        def succeed_all(requests: Any, batch: Any, *_: Any) -> None:
            requests[0].succeed(batch, 0, 1)
            raise RuntimeError("no answer for the others")

    it, answers = bench(), list[Any]()
    it.occupy()
    for value in range(3):
        it.batcher.submit(Together({"x": np.array([[value]])}, 1, answers.append))
    it.finish()
    assert [type(answer).__name__ for answer in answers] == ["Answer", "InternalError", "InternalError"]
    assert [str(failure) for failure in it.failures] == ["no answer for the others"]


def test_a_run_that_takes_long_on_the_arriving_thread_is_the_last_one_there(bench: Callable[..., Any]) -> None:
    """Zeros take no time at load; later inputs do."""
    now_ns = [0]
    it = bench(batcher={"curve": LatencyCurve((8,), (1000,)), "clock_ns": lambda: now_ns[0]})
    it.session.let_go()

    def take_long(x: Any) -> Any:
        now_ns[0] += 10**9
        return {"y": x * 10}

    it.submit(1, may_run=True)
    it.session.outcome = take_long
    it.submit(2, may_run=True)
    it.submit(3, may_run=True).rows()
    me = threading.current_thread()
    assert [thread is me for thread in it.session.threads] == [True, True, False]
