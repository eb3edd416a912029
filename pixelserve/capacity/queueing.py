"""Latency of a pod under load: a queue with Poisson arrivals whose sessions compute what waits in runs of up to K.

With one session, the requests left waiting by each run follow from `chain`, exactly. Poisson arrivals see time averages
(Wolff 1982, Operations Research 30(2)): a request arrives during a run in proportion to the run's length, at any moment
of it, and beside Poisson many others. How many of these came before it is approximated by its moment in the run. With
K = 1 and equal run times the queue is M/D/1; with run times linear in the batch it is the model of inference servers in
Inoue 2021 (Performance Evaluation 147).

Several sessions: `sampled`. Tests compare both with a simulation.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .chain import Floats, Ints, poisson, waiting_after_runs
from .service import Service

# Moments of a run at which arrivals are looked at.
_MOMENTS = 8
# Runs and arrivals that are rarer than this do not move a p99.
_RARE = 1e-6


@dataclass(frozen=True)
class _Waiting:
    """Requests that find a run in progress, as arrays of one shape."""

    weight: Floats
    """Their shares of all requests."""
    wait_s: Floats
    """Seconds until their own run starts."""
    run_s: Floats
    """Mean seconds of their run."""


class Queue:
    """A pod of one session at a rate, which must be below what the pod can do."""

    def __init__(self, service: Service, rate_per_s: float) -> None:
        self._service = service
        self._rate_per_s = rate_per_s
        self._sizes = np.arange(1, service.limit + 1)
        self._deviations_s = np.array([deviation_s for deviation_s, _ in service.deviations])
        self._shares = np.array([share for _, share in service.deviations])
        runs_s = np.add.outer(service.fixed_s + service.per_request_s * self._sizes, self._deviations_s)
        self._runs_s = np.maximum(runs_s, 0.0)
        self._after = waiting_after_runs(self._runs_s, self._shares, rate_per_s)

    @cached_property
    def requests_per_run(self) -> float:
        """Mean requests in a run."""
        return float(self._after @ self._size_after(np.arange(len(self._after))))

    @cached_property
    def utilisation(self) -> float:
        """Share of the time that a session computes, 0 to 1."""
        means_s = self._runs_s @ self._shares
        busy_s = float(self._after @ means_s[self._size_after(np.arange(len(self._after))) - 1])
        return min(1.0, self._rate_per_s / self.requests_per_run * busy_s)

    @cached_property
    def mean_wait_s(self) -> float:
        """Mean seconds from a request's arrival to the start of its run."""
        return float((self._waiting.weight * self._waiting.wait_s).sum())

    @property
    def waiting(self) -> float:
        """Mean requests that wait: L = λW (Little 1961, Operations Research 9(3))."""
        return self._rate_per_s * self.mean_wait_s

    def slower_than(self, latency_s: float) -> float:
        """Returns the share of requests whose latency is above `latency_s`."""
        left_s = latency_s - self._service.outside_s
        waiting = self._waiting
        # Not a dot product: BLAS would use every core for it, and wait for the slowest.
        slow = float((waiting.weight * self._above(left_s - waiting.wait_s - waiting.run_s)).sum())
        at_once = 1.0 - float(waiting.weight.sum())
        return slow + at_once * float(self._above(np.array(left_s - self._service.run_s(1))))

    def percentile_s(self, percent: float) -> float:
        """Returns a percentile of the latency in seconds, to 0.01 %."""
        beyond = 1.0 - percent / 100
        low_s, high_s = 0.0, self._service.outside_s + self._service.run_s(1)
        while self.slower_than(high_s) > beyond:
            low_s, high_s = high_s, 2.0 * high_s
        while high_s - low_s > 1e-4 * high_s:
            middle_s = (low_s + high_s) / 2
            low_s, high_s = (middle_s, high_s) if self.slower_than(middle_s) > beyond else (low_s, middle_s)
        return high_s

    def _size_after(self, waiting: Ints) -> Ints:
        """Returns the requests in the run that follows one after which so many wait."""
        return np.clip(waiting, 1, self._service.limit)

    def _above(self, seconds: Floats) -> Floats:
        """Returns for each element the share of runs that exceed their mean by more than that."""
        order = np.argsort(self._deviations_s)
        shares = np.append(np.cumsum(self._shares[order][::-1])[::-1], 0.0)
        return np.asarray(shares[np.searchsorted(self._deviations_s[order], seconds, side="right")])

    @cached_property
    def _waiting(self) -> _Waiting:
        states = np.flatnonzero(self._after > _RARE)
        parts = [self._arriving(int(state)) for state in states]
        weight, wait_s, run_s = map(np.concatenate, zip(*parts, strict=True))
        # A run that started after an idle time has one request that did not wait.
        return _Waiting(weight / (weight.sum() + self._after[0]), wait_s, run_s)

    def _arriving(self, state: int) -> tuple[Floats, Floats, Floats]:
        """Returns weights, waits and runs of those that arrive in the run after one that left `state` waiting."""
        limit, full_s = self._service.limit, float(self._runs_s[-1] @ self._shares)
        # Axes: the run's deviation, others that arrive during it, the moment, whether one more of them came before.
        during_s = self._runs_s[min(max(state, 1), limit) - 1][:, np.newaxis, np.newaxis, np.newaxis]
        expected = self._rate_per_s * during_s
        most = int(expected.max() + 6 * math.sqrt(expected.max()) + 6)
        others = np.arange(most + 1)[:, np.newaxis, np.newaxis]
        moment = ((np.arange(_MOMENTS) + 0.5) / _MOMENTS)[:, np.newaxis]
        whole, part = np.divmod(others * moment, 1.0)
        before = max(state - limit, 0) + whole + np.arange(2)
        full_runs = before // limit
        wait_s = during_s * (1.0 - moment) + full_runs * full_s
        there = max(state - limit, 0) + 1 + others + full_runs * (self._rate_per_s * full_s - limit)
        run_s = self._service.run_s(np.clip(there, 1, limit))
        weight = (
            self._after[state]
            / _MOMENTS
            * self._shares[:, np.newaxis, np.newaxis, np.newaxis]
            * expected
            * np.moveaxis(poisson(expected[:, 0, 0, 0], most)[:, np.newaxis, np.newaxis], -1, 1)
            * np.concatenate((1.0 - part, part), axis=-1)
        )
        weight, wait_s, run_s = np.broadcast_arrays(weight, wait_s, run_s)
        kept = weight > _RARE * weight.max()
        return weight[kept], wait_s[kept], run_s[kept]
