"""Keeps answers in the order of their requests where several sessions compute at once."""

import threading
from collections.abc import Callable


class Turnstile:
    """Lets work through in the order of tickets, whoever is ready first. May be used from any thread."""

    def __init__(self) -> None:
        """Starts with ticket 0."""
        self._lock = threading.Lock()
        self._next = 0
        self._ready: dict[int, Callable[[], None]] = {}

    def enter(self, ticket: int, work: Callable[[], None]) -> None:
        """Has `work` done once that of every earlier ticket is done, by this thread or the one that brought the last
        of these. Every ticket must come, once.

        Raises:
            BaseException: what the first to fail raised, after all that was ready is done.
        """
        failure: BaseException | None = None
        with self._lock:
            self._ready[ticket] = work
        while (ready := self._claim()) is not None:
            try:
                ready()
            except BaseException as error:  # noqa: BLE001  those behind it may have nobody else to do their work
                failure = failure or error
            with self._lock:
                self._next += 1
        if failure is not None:
            raise failure

    def _claim(self) -> Callable[[], None] | None:
        # What is taken out is being done: until its ticket is counted, the next one is not there to be claimed.
        with self._lock:
            return self._ready.pop(self._next, None)
