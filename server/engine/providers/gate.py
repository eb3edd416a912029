"""Blocks all other GPU use while a graph is captured."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureGate:
    """Allows many concurrent runs, or one capture.

    While a thread captures, a copy or allocation by any other thread of the process fails and breaks the capture.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._capturing = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Waits for running and waiting captures, then blocks captures. Must not be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Waits for runs and captures, then blocks both. Must not be nested in either."""
        with self._changed:
            # New runs wait from now on; otherwise a busy server would never capture.
            self._capturing += 1
            self._changed.wait_for(lambda: not self._running)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._capturing -= 1
                self._changed.notify_all()
