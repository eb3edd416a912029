"""A pod's latency at a rate, and the highest rate within a p99."""

from typing import Protocol

from .queueing import Queue
from .sampled import SampledQueue
from .service import Service

HIGHEST_SHARE = 0.95
"""Share of the highest rate up to which latency is predicted. Beyond, a few per cent of error in the measured curve
decide whether the queue grows without end."""
# The complement of a p99.
_SLOW = 0.01
# Closer than the curve is measured.
_PRECISION = 0.002


class Pod(Protocol):
    """A pod at a rate."""

    @property
    def requests_per_run(self) -> float:
        """Mean requests in a run."""

    @property
    def utilisation(self) -> float:
        """Share of the time that a session computes, 0 to 1."""

    @property
    def waiting(self) -> float:
        """Mean requests that wait."""

    def slower_than(self, latency_s: float) -> float:
        """Returns the share of requests whose latency is above `latency_s`."""

    def percentile_s(self, percent: float) -> float:
        """Returns a percentile of the latency, in seconds."""


def pod_at(service: Service, rate_per_s: float) -> Pod:
    """Returns a pod at a rate, which must be at most `HIGHEST_SHARE` of what it can do."""
    return Queue(service, rate_per_s) if service.sessions == 1 else SampledQueue(service, rate_per_s)


def highest_rate_per_s(service: Service, p99_s: float) -> float:
    """Returns the highest rate within a p99, and within `HIGHEST_SHARE`; 0 if not even a lone request is."""
    highest_per_s = HIGHEST_SHARE * service.most_per_s
    if pod_at(service, highest_per_s).slower_than(p99_s) <= _SLOW:
        return highest_per_s
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        within = pod_at(service, middle * highest_per_s).slower_than(p99_s) <= _SLOW
        low, high = (middle, high) if within else (low, middle)
    return low * highest_per_s
