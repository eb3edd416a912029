"""Threads for the server's lifetime: restarts after failures."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.supervised import PeriodicThread, Supervisor

PATIENCE_S = 20


class Watched:
    """A supervisor, and its reports."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self.down: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.supervisor = Supervisor(self.failures.put, self._changed, pause_s=pause_s)  # type: ignore[arg-type]

    def _changed(self) -> None:
        self.down.put(self.supervisor.down)

    def next_down(self) -> tuple[str, ...]:
        return self.down.get(timeout=PATIENCE_S)


def failing(times: int, error: BaseException, done: threading.Event) -> Callable[[], None]:
    """Work that raises a number of times, and then finishes."""
    left = [times]

    def work() -> None:
        if left[0]:
            left[0] -= 1
            raise error
        done.set()

    return work


@pytest.mark.parametrize("error", [KeyError("trouble"), SystemExit(), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_work_that_raises_is_logged_and_done_again(error: BaseException) -> None:
    it, done, restarts = Watched(), threading.Event(), queue.Queue[int]()
    thread = it.supervisor.thread("worker", failing(2, error, done), on_restart=lambda: restarts.put(1))
    thread.start()
    assert done.wait(PATIENCE_S)
    thread.close(PATIENCE_S)
    assert not thread.is_alive
    assert [it.failures.get_nowait() for _ in range(2)] == [error] * 2
    assert [it.next_down() for _ in range(4)] == [("worker",), (), ("worker",), ()]
    assert restarts.qsize() == 2
    assert it.supervisor.down == ()


def test_work_that_returns_is_not_done_again() -> None:
    it, calls = Watched(), []
    thread = it.supervisor.thread("worker", lambda: calls.append(1))
    thread.start()
    thread.close(PATIENCE_S)
    assert calls == [1]
    assert it.down.empty()


def test_a_thread_that_has_failed_counts_as_down_until_it_starts_again() -> None:
    it, done = Watched(pause_s=3600), threading.Event()
    thread = it.supervisor.thread("worker", failing(1, ValueError(), done))
    thread.start()
    assert it.next_down() == ("worker",)
    assert it.supervisor.down == ("worker",)
    thread.close(PATIENCE_S)
    assert not thread.is_alive
    assert not done.is_set()


def test_reporting_a_failure_cannot_end_the_thread() -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def fail() -> None:
        raise RuntimeError("a listener")

    supervisor = Supervisor(failures.append, fail, pause_s=0)  # type: ignore[arg-type]
    thread = supervisor.thread("worker", failing(1, ValueError(), done), on_restart=fail)
    thread.start()
    assert done.wait(PATIENCE_S)
    assert {type(error) for error in failures} == {ValueError, RuntimeError}


def test_one_that_could_not_be_started_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    it: Any = Watched()
    thread = it.supervisor.thread("worker", lambda: None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        thread.start()
    thread.close()
    assert not thread.is_alive


def test_a_periodic_thread_looks_again_after_any_failure_and_ends_when_it_is_closed() -> None:
    failures: list[BaseException] = []
    looks: list[int] = []
    thrice = threading.Event()

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 3:
            thrice.set()
        raise ValueError("a look failed")

    def log_failure(error: BaseException) -> str:
        failures.append(error)
        return "id"

    restarts: list[str] = []
    periodic = PeriodicThread(Supervisor(log_failure, lambda: restarts.append("down")), "periodic", look, 0.001)
    periodic.start()
    assert thrice.wait(60)
    periodic.close()
    count = len(looks)
    assert [str(error) for error in failures] == ["a look failed"] * count
    # The server stays ready: a failed look is not a failed thread.
    assert restarts == []
    assert all(thread.name != "periodic" for thread in threading.enumerate())
