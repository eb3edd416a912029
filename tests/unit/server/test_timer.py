"""The thread that runs short functions later."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pixelserve_server.engine.timer import Timer

PATIENCE_S = 20
FOREVER_S = 3600.0
FOREVER_NS = int(FOREVER_S * 1e9)


class Clock:
    """A timer, and the results of its functions in order."""

    def __init__(self) -> None:
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self.timer = Timer(self.failures.put)
        self.called: queue.Queue[str] = queue.Queue()
        self._functions: dict[str, Callable[[], None]] = {}

    def at(self, in_ns: int, name: str) -> None:
        """Schedules `name` in a number of nanoseconds, replacing its earlier schedule."""
        function = self._functions.setdefault(name, lambda: self.called.put(name))
        self.timer.at(time.monotonic_ns() + in_ns, function)

    def take(self, count: int) -> list[str]:
        return [self.called.get(timeout=PATIENCE_S) for _ in range(count)]


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A timer that is not started; it is closed after the test."""
    clock = Clock()
    yield clock
    clock.timer.close()
    assert clock.failures.empty()
    assert clock.called.empty()


def test_functions_are_called_at_their_times_the_earliest_first(clock: Clock) -> None:
    for in_ns, name in ((-1, "third"), (-3, "first"), (FOREVER_NS, "never"), (-2, "second")):
        clock.at(in_ns * 10**9 if in_ns < 0 else in_ns, name)
    clock.timer.start()
    assert clock.take(3) == ["first", "second", "third"]


def test_a_function_is_not_called_before_its_time(clock: Clock) -> None:
    times_ns: queue.Queue[int] = queue.Queue()
    due_ns = time.monotonic_ns() + 20_000_000
    clock.timer.start()
    clock.timer.at(due_ns, lambda: times_ns.put(time.monotonic_ns()))
    assert times_ns.get(timeout=PATIENCE_S) >= due_ns


def test_a_sooner_function_is_not_kept_waiting_by_a_later_one(clock: Clock) -> None:
    clock.timer.start()
    clock.at(FOREVER_NS, "late")
    clock.at(0, "soon")
    assert clock.take(1) == ["soon"]


def test_a_function_has_one_time_and_the_last_that_was_set_holds(clock: Clock) -> None:
    clock.at(FOREVER_NS, "a")
    clock.at(0, "a")
    clock.at(0, "b")
    clock.at(FOREVER_NS, "b")
    clock.at(1, "c")
    clock.timer.start()
    assert clock.take(2) == ["a", "c"]


def test_a_function_may_set_its_own_next_time(clock: Clock) -> None:
    times: list[int] = []
    done = threading.Event()

    def again() -> None:
        times.append(len(times))
        if len(times) < 3:
            clock.timer.at(0, again)
        else:
            done.set()

    clock.timer.start()
    clock.timer.at(0, again)
    assert done.wait(PATIENCE_S)
    assert times == [0, 1, 2]


def test_methods_of_one_object_are_one_function(clock: Clock) -> None:
    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        def expire(self) -> None:
            clock.called.put(self.name)

    first, second = Model("first"), Model("second")
    for each in (first, second, first):
        clock.timer.at(0, each.expire)
    clock.timer.start()
    assert sorted(clock.take(2)) == ["first", "second"]


def test_a_function_that_raises_is_logged_and_the_others_go_on(clock: Clock) -> None:
    def fail() -> None:
        raise KeyError("trouble")

    clock.timer.at(-1, fail)
    clock.at(0, "a")
    clock.timer.start()
    assert clock.take(1) == ["a"]
    assert str(clock.failures.get(timeout=PATIENCE_S)) == "'trouble'"
    clock.at(0, "b")
    assert clock.take(1) == ["b"]


@pytest.mark.parametrize("is_started", [True, False])
def test_closing_ends_the_thread_and_calls_nothing_more(is_started: bool) -> None:
    called: list[Any] = []
    timer = Timer(called.append)
    if is_started:
        timer.start()
    timer.at(time.monotonic_ns() + FOREVER_NS, lambda: called.append("called"))
    timer.close()
    timer.at(0, lambda: called.append("called"))
    assert called == []
    assert not timer._thread.is_alive
