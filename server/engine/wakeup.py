"""Condition variables that are cheap if no thread waits."""

import threading
from contextlib import AbstractContextManager

Lock = AbstractContextManager[bool, None]
"""A `threading.Lock`, or a simulation's lock."""


class Wakeup:
    """A condition that counts its sleeping threads, because usually there are none to wake.

    Callers must hold its lock.
    """

    def __init__(self, lock: threading.Lock) -> None:
        """`lock` protects the state that threads wait for."""
        self._condition = threading.Condition(lock)
        self.sleeping = 0
        """Threads that sleep, or were woken and wait for the lock."""

    def sleep(self, timeout_s: float | None) -> None:
        """Releases the lock until woken or for `timeout_s`, then reacquires it. May return early."""
        self.sleeping += 1
        try:
            self._condition.wait(timeout_s)
        finally:
            self.sleeping -= 1

    def wake(self, count: int = 1) -> None:
        """Wakes up to `count` threads."""
        if self.sleeping:
            self._condition.notify(count)

    def wake_all(self) -> None:
        """Wakes all threads."""
        if self.sleeping:
            self._condition.notify_all()


Wakeups = tuple[Lock, Wakeup, Wakeup]
"""A lock and two conditions that share it."""


def two_wakeups() -> Wakeups:
    """Returns a new lock and two conditions that share it."""
    lock = threading.Lock()
    return lock, Wakeup(lock), Wakeup(lock)
