"""Decides whether h2corn's threads interrupt the model's.

A thread that wakes up usually interrupts the one that runs. h2corn's wakes up for every packet, so on a busy core the
model's thread and the event loop's are interrupted thousands of times per second, which costs up to a fifth of the
rate and a third of the goodput under overload. As a batch thread (SCHED_BATCH) it waits until they sleep, or for 3 to
4 ms, and then does all that has accumulated. It would wait as long for another process, for every packet. So it is a
batch thread only while this process alone takes nearly all the time of its cores.
"""

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...engine.cores import usable_cores

# Seconds between looks: a look costs 0.1 ms on a busy server, and changes nothing within a few packets.
_LOOK_S = 0.1
# Share of the cores' time that leaves nothing for another process that wants some: one busy thread beside our three
# would take a quarter.
_NEARLY_ALL = 0.8
_THREAD_NAME = "tokio-rt-worker"
_TASKS = Path("/proc/self/task")


class Preemption:
    """Looks at this process's share of its cores, as often as it is asked. Thread-safe.

    Args:
        now_s: the time, in seconds.
        cpu_s: returns the CPU time of this process, in seconds.
        cores: returns the number of cores it may use.
        set_batch: makes h2corn's threads batch threads, or normal ones again.
    """

    def __init__(
        self,
        now_s: float,
        *,
        cpu_s: Callable[[], float] = time.process_time,
        cores: Callable[[], int] = usable_cores,
        set_batch: Callable[[bool], None] | None = None,
    ) -> None:
        self._cpu_s = cpu_s
        self._cores = cores
        self._set_batch = set_batch or _set_batch
        self._lock = threading.Lock()
        self._last_s, self._last_cpu_s = now_s, cpu_s()
        self._next_s = now_s + _LOOK_S
        self._is_batch = False

    def look(self, now_s: float) -> None:
        """Looks if the last look was a tenth of a second ago; called at each turn of an event loop. Never raises."""
        if now_s < self._next_s or not self._lock.acquire(blocking=False):
            return
        try:
            cpu_s = self._cpu_s()
            share = (cpu_s - self._last_cpu_s) / (now_s - self._last_s)
            self._last_s, self._last_cpu_s, self._next_s = now_s, cpu_s, now_s + _LOOK_S
            # The number of cores takes longer to find than the rest.
            is_batch = share >= _NEARLY_ALL and share >= _NEARLY_ALL * self._cores()
            if is_batch != self._is_batch:
                self._set_batch(is_batch)
                self._is_batch = is_batch
        except Exception:  # noqa: BLE001  whatever a sandbox forbids must not end a port's loop
            self._next_s = float("inf")
        finally:
            self._lock.release()


@functools.cache
def of_this_process() -> Preemption:
    """Returns the one that all ports share, because h2corn has one set of threads."""
    return Preemption(time.monotonic())


def _set_batch(is_batch: bool) -> None:
    policy = os.SCHED_BATCH if is_batch else os.SCHED_OTHER
    for task in _TASKS.iterdir():
        try:
            if (task / "comm").read_text().strip() == _THREAD_NAME:
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended.
            continue
