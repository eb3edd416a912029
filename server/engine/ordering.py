"""Keeps answers in the order of their requests when several sessions compute."""

import threading
from collections.abc import Callable


class Turnstile:
    """Runs work in the order of tickets, whichever is ready first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._ready: dict[int, Callable[[], None]] = {}

    def enter(self, ticket: int, work: Callable[[], None]) -> None:
        """Runs `work` after the work of all earlier tickets, on this thread or the one with the last of these.

        Every ticket must come exactly once.

        Raises:
            BaseException: raised by the first failing work, after all ready work is done.
        """
        failure: BaseException | None = None
        with self._lock:
            self._ready[ticket] = work
        while (ready := self._claim()) is not None:
            try:
                ready()
            except BaseException as error:  # noqa: BLE001  no other thread may run the work behind it
                failure = failure or error
            with self._lock:
                self._next += 1
        if failure is not None:
            raise failure

    def _claim(self) -> Callable[[], None] | None:
        # Removed work is running: until its ticket is counted, the next one cannot be claimed.
        with self._lock:
            return self._ready.pop(self._next, None)
