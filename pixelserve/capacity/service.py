"""How long a pod takes for a run, and what else of it a plan needs."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", float, NDArray[np.float64])


@dataclass(frozen=True)
class Service:
    """One pod as a queue sees it: sessions that each compute up to `limit` waiting requests in one run."""

    fixed_s: float
    """Seconds that a run takes, however many requests it has."""
    per_request_s: float
    """Seconds that each request adds to its run."""
    limit: int
    """Most requests in a run."""
    sessions: int = 1
    """Runs that may be in progress at once."""
    outside_s: float = 0.0
    """Seconds of a request's latency that occupy no session: the network and the client."""
    deviations: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """How runs differ from their mean: seconds (mean zero) and the share of runs with them."""

    def run_s(self, requests: T) -> T:
        """Returns the mean seconds of a run of `requests` requests, a number or an array."""
        return self.fixed_s + self.per_request_s * requests

    @property
    def most_per_s(self) -> float:
        """Requests per second above which the queue never empties: full runs, one after the other."""
        return self.sessions * self.limit / self.run_s(self.limit)
