"""Latency of a pod with several sessions (M/D/c with runs of up to K), from a sample.

No closed form covers runs on several sessions whose time depends on their size, and treating them as one faster session
was off by up to 60 %. The recursion of Kiefer and Wolfowitz 1955 (Transactions of the American Mathematical Society 78)
is exact: it tracks when each session becomes free; the next run starts at the earliest of these, or when a request
arrives, and takes what waits by then. All rates use the same random arrivals, so results are repeatable and grow with
the rate.
"""

import heapq
from functools import cached_property

import numpy as np

from .chain import Floats
from .service import Service

# A thousand requests beyond the p99 leave a few per cent to chance up to 0.9 of the highest rate.
_REQUESTS = 100_000
_SEED = 1


class SampledQueue:
    """A pod at a rate; see `queueing.Queue`."""

    def __init__(self, service: Service, rate_per_s: float) -> None:
        self._service = service
        self._rate_per_s = rate_per_s

    @property
    def requests_per_run(self) -> float:
        """Mean requests in a run."""
        return len(self._waits_s) / self._runs

    @property
    def utilisation(self) -> float:
        """Share of the time that a session computes, 0 to 1."""
        busy_s = self._service.run_s(self.requests_per_run) / self.requests_per_run
        return min(1.0, self._rate_per_s * busy_s / self._service.sessions)

    @property
    def waiting(self) -> float:
        """Mean requests that wait: L = λW (Little 1961, Operations Research 9(3))."""
        return self._rate_per_s * float(self._waits_s.mean())

    def slower_than(self, latency_s: float) -> float:
        """Returns the share of requests whose latency is above `latency_s`."""
        return float((self._latencies_s + self._service.outside_s > latency_s).mean())

    def percentile_s(self, percent: float) -> float:
        """Returns a percentile of the latency, in seconds."""
        return float(np.percentile(self._latencies_s, percent)) + self._service.outside_s

    @cached_property
    def _sample(self) -> tuple[Floats, Floats, int]:
        """Waits, latencies without what is outside the pod, and the number of runs."""
        service, random = self._service, np.random.default_rng(_SEED)
        arrivals_s = np.cumsum(random.exponential(1.0, _REQUESTS)) / self._rate_per_s
        deviations_s, shares = zip(*service.deviations, strict=True)
        extra_s = random.choice(deviations_s, _REQUESTS, p=shares)
        starts_s, ends_s = np.empty(_REQUESTS), np.empty(_REQUESTS)
        free_s = [0.0] * service.sessions
        first = runs = 0
        while first < _REQUESTS:
            start_s = max(free_s[0], arrivals_s[first])
            end = first + int(np.searchsorted(arrivals_s[first : first + service.limit], start_s, side="right"))
            end_s = start_s + max(0.0, service.run_s(float(end - first)) + extra_s[runs])
            heapq.heapreplace(free_s, end_s)
            starts_s[first:end], ends_s[first:end] = start_s, end_s
            first, runs = end, runs + 1
        return starts_s - arrivals_s, ends_s - arrivals_s, runs

    @property
    def _waits_s(self) -> Floats:
        return self._sample[0]

    @property
    def _latencies_s(self) -> Floats:
        return self._sample[1]

    @property
    def _runs(self) -> int:
        return self._sample[2]
