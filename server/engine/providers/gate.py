"""Keeps everything else off the GPU while a graph is captured."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureGate:
    """Many may run, or one may capture.

    While a thread captures, a copy or an allocation of any other thread of the process fails, and spoils the capture.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._capturing = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Waits for captures, also those that wait; keeps captures out meanwhile. Must not be nested."""
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
        """Waits for runs and captures; keeps both out meanwhile. Must not be nested in either."""
        with self._changed:
            # Those who would run wait from now on, or a busy server would never get to a capture.
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
