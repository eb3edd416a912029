"""Where threads sleep until something changes."""

import threading
from contextlib import AbstractContextManager

Lock = AbstractContextManager[bool, None]
"""What guards a state: a `threading.Lock`, or a simulation's."""


class Wakeup:
    """A condition that knows how many threads sleep on it: waking no one is the usual case, and must be cheap.

    Its lock is held around every call.
    """

    def __init__(self, lock: threading.Lock) -> None:
        """Takes the lock that guards what the sleepers look at."""
        self._condition = threading.Condition(lock)
        self.sleeping = 0
        """Threads that sleep, or have been woken and wait for the lock."""

    def sleep(self, timeout_s: float | None) -> None:
        """Releases the lock until it is woken, at most so long, and takes it again. May return early."""
        self.sleeping += 1
        try:
            self._condition.wait(timeout_s)
        finally:
            self.sleeping -= 1

    def wake(self, count: int = 1) -> None:
        """Wakes so many threads, or as many as sleep."""
        if self.sleeping:
            self._condition.notify(count)

    def wake_all(self) -> None:
        """Wakes all threads."""
        if self.sleeping:
            self._condition.notify_all()


Wakeups = tuple[Lock, Wakeup, Wakeup]
"""A lock, and two places to sleep under it."""


def two_wakeups() -> Wakeups:
    """Returns a new lock, and two places to sleep under it."""
    lock = threading.Lock()
    return lock, Wakeup(lock), Wakeup(lock)
