"""Limits how often a token may be used."""

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Allows a number of requests per second, with a burst of one second's worth (a leaky bucket as a meter).

    Thread-safe.

    Args:
        per_s: requests per second, above 0.
        now: returns the time in seconds.
    """

    def __init__(self, per_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.per_s = per_s
        self._interval_s = 1 / per_s
        # Below one request per second, one at a time.
        self._burst_s = max(1.0, self._interval_s)
        self._now = now
        self._next_s = 0.0
        self._lock = threading.Lock()

    def take(self) -> float:
        """Counts an allowed request and returns 0; otherwise returns the seconds to wait."""
        with self._lock:
            now_s = self._now()
            next_s = max(self._next_s, now_s) + self._interval_s
            # A sum of intervals may miss the burst by a rounding error.
            wait_s = next_s - self._burst_s - now_s
            if wait_s > 1e-9:
                return wait_s
            self._next_s = next_s
            return 0.0
