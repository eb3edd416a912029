"""Deadlines."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A time by which something must end."""

    at_s: float
    """When, by `time.monotonic()`."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Returns the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def earlier(self, seconds: float) -> "Deadline":
        """Returns the deadline `seconds` before this one."""
        return Deadline(self.at_s - seconds)

    def within(self, seconds: float) -> "Deadline":
        """Returns the earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at_s, time.monotonic() + seconds))

    def left_s(self, at_most_s: float = threading.TIMEOUT_MAX) -> float:
        """Returns the remaining seconds, from 0 to `at_most_s`."""
        return min(max(0.0, self.at_s - time.monotonic()), at_most_s)
