"""Holds calls for a moment before they are handled."""

import threading
import time
from collections.abc import Callable, Container, Sequence

from .call import Call


class HeldCalls:
    """Calls held by a dispatcher. Thread-safe.

    Args:
        handle: handles a call, when it is released or at once if it is not held.
        methods: full names of the methods whose calls are held.
        most: maximum number of held calls.
    """

    def __init__(self, handle: Callable[[str, bytes, Call], None], methods: Container[str], most: int) -> None:
        self._handle = handle
        self._methods = methods
        self._most = most
        self._calls: list[tuple[str, bytes, Call]] = []
        self._last_s = 0.0
        self._is_released = False
        self._changed = threading.Condition(threading.Lock())

    def take(self, method: str, message: bytes, call: Call) -> None:
        """Holds one call, or handles it."""
        with self._changed:
            is_kept = method in self._methods and len(self._calls) < self._most and not self._is_released
            if is_kept:
                self._calls.append((method, message, call))
                self._last_s = time.monotonic()
                if len(self._calls) == self._most:
                    self._changed.notify_all()
        if not is_kept:
            self._handle(method, message, call)

    def take_all(self, arrivals: Sequence[tuple[str, bytes, Call]]) -> None:
        """Holds or handles calls that arrived together."""
        for method, message, call in arrivals:
            self.take(method, message, call)

    def wait_until_quiet(self, quiet_s: float, at_most_s: float) -> int:
        """Waits until no call has come for `quiet_s` seconds after the first, or no more are held; at most `at_most_s`.

        Returns:
            Number of held calls.
        """
        end_s = time.monotonic() + at_most_s
        with self._changed:
            while len(self._calls) < self._most:
                quiet_at_s = self._last_s + quiet_s if self._calls else end_s
                left_s = min(quiet_at_s, end_s) - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            return len(self._calls)

    def release(self) -> None:
        """Handles the held calls in order."""
        with self._changed:
            self._is_released = True
        for method, message, call in self._calls:
            self._handle(method, message, call)
