"""Simulated threads, locks and time: the schedule comes from a seed, so runs can be repeated."""

import heapq
import random
from collections.abc import Callable
from typing import Any


class Violation(AssertionError):
    """A promise that was not kept."""


def require(condition: object, promise: str) -> None:
    """Raises a Violation unless a promise is kept."""
    if not condition:
        raise Violation(promise)


class Parked(BaseException):
    """Ends a task's step where a thread would sleep; it is done again from its start when the task is woken, which is
    right for code that sleeps in a loop around its condition."""


class World:
    """A clock, and what will happen when."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_ns = 10**9
        self.current: Task | None = None
        """The task whose step this is; None: something from outside, such as a client."""
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._count = 0

    def clock_ns(self) -> int:
        return self.now_ns

    def after(self, delay_ns: int, event: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ns + delay_ns, self._count, event))

    def pass_time(self, duration_ns: int) -> None:
        """Has others do what they do while the current step takes its time."""
        before, end_ns = self.current, self.now_ns + duration_ns
        self.current = None
        while self._events and self._events[0][0] <= end_ns:
            self._next()
        self.now_ns, self.current = max(self.now_ns, end_ns), before

    def run(self) -> None:
        """Has everything happen, until nothing is left to."""
        while self._events:
            self._next()

    def _next(self) -> None:
        when_ns, _, event = heapq.heappop(self._events)
        # Whatever took its time meanwhile, or a jump of the clock, makes it late.
        self.now_ns = max(self.now_ns, when_ns)
        event()


class Task:
    """A thread in small: each step runs until it sleeps, or returns how many nanoseconds until the next."""

    def __init__(self, world: World, step: Callable[[], int | None]) -> None:
        self._world, self._step = world, step
        self.place: SimulatedWakeup | None = None
        """Where it sleeps."""
        self.is_timed = False
        """Whether it sleeps until some time at most."""
        self.has_ended = False
        self._sleeps = 0
        self.resume()

    def resume(self) -> None:
        """Goes on, as soon as the machine lets it: mostly at once."""
        self.place = None
        self._sleeps += 1
        draw = self._world.random.random()
        self._world.after(int(draw * 20_000) if draw < 0.98 else int(draw * 2_000_000), self._go_on)

    def sleep(self, place: "SimulatedWakeup", timeout_s: float | None) -> None:
        self.place, self.is_timed = place, timeout_s is not None
        if timeout_s is not None:
            sleeps = self._sleeps
            self._world.after(max(int(timeout_s * 1e9), 1), lambda: self._sleeps == sleeps and self._time_is_up())

    def _time_is_up(self) -> None:
        if self.place is not None:
            self.place.sleepers.remove(self)
            self.resume()

    def _go_on(self) -> None:
        before, self._world.current = self._world.current, self
        try:
            again_ns = self._step()
        except Parked:
            return
        finally:
            self._world.current = before
        if again_ns is None:
            self.has_ended = True
        else:
            self._world.after(again_ns, self._go_on)


class SimulatedLock:
    """A lock that knows a deadlock: there is one thread, so it is never held when it is taken."""

    def __init__(self) -> None:
        self.is_held = False

    def __enter__(self) -> bool:
        require(not self.is_held, "no thread waits for a lock that it holds itself")
        self.is_held = True
        return True

    def __exit__(self, *_: object) -> None:
        self.is_held = False


class SimulatedWakeup:
    """Where tasks sleep. Whom it wakes is drawn: threads have no order."""

    def __init__(self, world: World, lock: SimulatedLock) -> None:
        self._world, self._lock = world, lock
        self.sleepers: list[Task] = []

    @property
    def sleeping(self) -> int:
        return len(self.sleepers)

    def sleep(self, timeout_s: float | None) -> None:
        require(self._lock.is_held, "who sleeps holds the lock")
        require(self._world.current is not None, "no thread from outside sleeps in the engine")
        assert self._world.current is not None
        self.sleepers.append(self._world.current)
        self._world.current.sleep(self, timeout_s)
        raise Parked

    def wake(self, count: int = 1) -> None:
        require(self._lock.is_held, "who wakes holds the lock")
        for _ in range(min(count, len(self.sleepers))):
            self.sleepers.pop(self._world.random.randrange(len(self.sleepers))).resume()

    def wake_all(self) -> None:
        self.wake(len(self.sleepers))


def wakeups(world: World) -> Callable[[], Any]:
    """Returns what makes a lock and two places to sleep, as `engine.wakeup.two_wakeups` does."""

    def make() -> tuple[SimulatedLock, SimulatedWakeup, SimulatedWakeup]:
        lock = SimulatedLock()
        return lock, SimulatedWakeup(world, lock), SimulatedWakeup(world, lock)

    return make
