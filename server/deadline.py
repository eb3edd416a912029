"""Moments by which something has to end."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment by which something has to end."""

    at_s: float
    """When, by `time.monotonic()`."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Returns the moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def earlier(self, seconds: float) -> "Deadline":
        """Returns the moment so many seconds before this one."""
        return Deadline(self.at_s - seconds)

    def within(self, seconds: float) -> "Deadline":
        """Returns this moment, or that so many seconds from now if it is sooner."""
        return Deadline(min(self.at_s, time.monotonic() + seconds))

    def left_s(self, at_most_s: float = threading.TIMEOUT_MAX) -> float:
        """Returns the seconds until then, but no more than `at_most_s`; 0 if it has passed."""
        return min(max(0.0, self.at_s - time.monotonic()), at_most_s)
