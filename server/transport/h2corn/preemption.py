"""Decides whether h2corn's threads interrupt the model's.

A thread that wakes up usually interrupts the one that runs. h2corn's wakes up for every packet, so on a busy core the
model's thread and the event loop's are interrupted thousands of times per second, which costs up to a fifth of the
rate and a third of the goodput under overload. As a batch thread (SCHED_BATCH) it waits until they sleep, or until the
kernel chooses again, and then does all that has accumulated. It would wait as long for another process, for every
packet. So it is a batch thread only while this process alone takes nearly all the time of its cores.

The kernel chooses again at its tick, every 4 ms and not always in h2corn's favour, and whenever a thread that needs
little time has woken up and sleeps again. So the thread that decides is such a thread, a little more often.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...engine.cores import usable_cores
from ...supervised import Supervisor

# Seconds between looks, each of which takes 0.1 ms on a busy server.
_LOOK_S = 0.1
# Seconds between wake-ups while h2corn's threads are batch threads. Of cifar10's refusals at ten times the capacity,
# 99 % take 4 ms, and 7 ms without wake-ups.
_WAKE_S = 0.003
# Seconds to the next try if the system refuses: a sandbox always does, a lack of file descriptors passes.
_RETRY_S = 60.0
# Share of the cores' time that leaves nothing for another process that wants some: one busy thread beside our three
# would take a quarter.
_NEARLY_ALL = 0.8
_THREAD_NAME = "tokio-rt-worker"
_TASKS = Path("/proc/self/task")


class Preemption:
    """Looks at this process's share of its cores, on its own thread.

    Args:
        on_refusal: called with the error when the system refuses for the first time.
        supervisor: supervises the thread.
        now_s: returns the time, in seconds.
        cpu_s: returns the CPU time of this process, in seconds.
        cores: returns the number of cores it may use.
        set_batch: makes h2corn's threads batch threads, or normal ones again.
    """

    def __init__(
        self,
        on_refusal: Callable[[OSError], object],
        supervisor: Supervisor,
        *,
        now_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        cores: Callable[[], int] = usable_cores,
        set_batch: Callable[[bool], None] | None = None,
    ) -> None:
        self._on_refusal = on_refusal
        self._now_s = now_s
        self._cpu_s = cpu_s
        self._cores = cores
        self._set_batch = set_batch or _set_batch
        self._last_s, self._last_cpu_s = now_s(), cpu_s()
        self._is_batch = False
        self._stop = threading.Event()
        self._thread = supervisor.thread("preemption", self._work)

    def start(self) -> None:
        """Starts looking.

        Raises:
            RuntimeError: the system cannot start more threads.
        """
        self._thread.start()

    def close(self) -> None:
        """Stops looking."""
        self._stop.set()
        self._thread.close()

    def look(self) -> None:
        """Looks once, at the time since the last look.

        Raises:
            OSError: the system refuses to change threads.
        """
        now_s, cpu_s = self._now_s(), self._cpu_s()
        share = (cpu_s - self._last_cpu_s) / (now_s - self._last_s)
        self._last_s, self._last_cpu_s = now_s, cpu_s
        # The number of cores takes longer to find than the rest.
        is_batch = share >= _NEARLY_ALL and share >= _NEARLY_ALL * self._cores()
        if is_batch != self._is_batch:
            self._set_batch(is_batch)
            self._is_batch = is_batch

    def _work(self) -> None:
        has_refused = False
        while not self._pause():
            try:
                self.look()
            except OSError as error:
                if not has_refused:
                    self._on_refusal(error)
                has_refused = True
                self._stop.wait(_RETRY_S)

    def _pause(self) -> bool:
        """Waits until the next look; returns whether it is over."""
        if not self._is_batch:
            return self._stop.wait(_LOOK_S)
        return any(self._stop.wait(_WAKE_S) for _ in range(round(_LOOK_S / _WAKE_S)))


def _set_batch(is_batch: bool) -> None:
    policy = os.SCHED_BATCH if is_batch else os.SCHED_OTHER
    for task in _TASKS.iterdir():
        try:
            if (task / "comm").read_text().strip() == _THREAD_NAME:
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended.
            continue
