"""Replays a recorded workload through measured run times, to choose how long requests wait for others."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np

from .trace import Trace

DELAYS_US = (0, 500, 1000, 2000, 5000)
"""Queue delays that are compared, in microseconds."""
# A longer delay must be worth it: simulated times are a few percent off.
_GAIN = 0.95


def p99_us(trace: Trace, run_us: Mapping[int, float], sessions: int, limit: int, delay_us: float) -> float:
    """Returns the 99th percentile of the time from arrival to answer, in microseconds.

    Requests are taken in order and never split; a batch starts when a session is free and it is full, or its oldest
    request has waited for the delay.

    Args:
        trace: the workload.
        run_us: by batch size, the time of a run in microseconds; other sizes take as long as the next larger one.
        sessions: runs at once.
        limit: maximum rows of merged requests.
        delay_us: how long the oldest request waits for others.
    """
    sizes = sorted(run_us)
    free_us = [0.0] * sessions
    arrivals_us = [arrival_s * 1e6 for arrival_s in trace.arrivals_s]
    latencies_us: list[float] = []
    first = 0
    while first < len(arrivals_us):
        session = min(range(sessions), key=free_us.__getitem__)
        ready_us = max(free_us[session], arrivals_us[first])
        due_us = max(ready_us, arrivals_us[first] + delay_us)
        last, rows = first + 1, trace.rows[first]
        while last < len(arrivals_us) and arrivals_us[last] <= due_us and rows + trace.rows[last] <= limit:
            rows += trace.rows[last]
            last += 1
        is_full = last < len(arrivals_us) and arrivals_us[last] <= due_us
        start_us = max(ready_us, arrivals_us[last - 1]) if is_full or rows >= limit else due_us
        end_us = start_us + _run_us(sizes, run_us, rows)
        latencies_us += [end_us - arrival_us for arrival_us in arrivals_us[first:last]]
        free_us[session] = end_us
        first = last
    return float(np.percentile(latencies_us, 99))


def _run_us(sizes: Sequence[int], run_us: Mapping[int, float], rows: int) -> float:
    index = bisect_left(sizes, rows)
    return run_us[sizes[index]] if index < len(sizes) else run_us[sizes[-1]] * rows / sizes[-1]


def best_delay_us(trace: Trace, run_us: Mapping[int, float], sessions: int, limit: int) -> int:
    """Returns the queue delay with the lowest p99 of a workload; 0 unless another is clearly better."""
    found = {delay_us: p99_us(trace, run_us, sessions, limit, delay_us) for delay_us in DELAYS_US}
    best = min(found, key=found.__getitem__)
    return best if found[best] < _GAIN * found[0] else 0
