"""The threads that decode pictures: few, in a fair order, within a budget of memory, and never those that dispatch
calls or run batches.

Promises:
- work that was taken is run step by step until it is done, or dropped with one error;
- the memory of all steps that run is within the budget, as far as their estimates hold;
- work whose deadline passes, or that is dropped while it waits, leaves at once and frees its place; if a step of it
  runs, it leaves after that step;
- after `stop` nothing is left that waits, whatever hangs.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Protocol

from ..engine.timer import Timer
from ..errors import Cancelled, DeadlineExceeded, InternalError, QueueFull, RequestError, Unavailable
from ..failures import FailureLog
from ..supervised import Supervisor
from .fair import FairOrder, Place, Step

MAX_WAITING = 256
"""Requests that may wait in a server, beside those whose pictures are being decoded."""

_FULL = "too many requests wait for their pictures to be decoded; retry later"
_LATE = "the deadline passed before the request's pictures were decoded; allow more time, or send fewer or smaller ones"
_LEFT = "the caller left before its pictures were decoded"
_BROKEN = "internal error while pictures were decoded; the server's log has the details under {}"
_NO_THREADS = "no thread can be started to decode pictures; retry later"
_STOPPING = "the server is stopping; send the request to another replica, or again in a moment"


class Work(Protocol):
    """What the pool does for one request."""

    sender: Hashable
    """Whose it is: senders are treated alike."""
    deadline_s: float | None
    """Deadline by `time.monotonic()`; None if it has none."""
    first: Step
    """Its first step, known before anything is looked at."""
    is_over: bool
    """Whether it was cancelled; what is so before it comes here is not taken."""

    def run(self) -> Step | None:
        """Does one step and returns the next; None: it is done."""

    def drop(self, error: RequestError) -> None:
        """Ends it unfinished; called at most once, never while `run` runs, and by any thread."""


class _Entry(Place):
    def __init__(self, work: Work) -> None:
        super().__init__(work.sender, work.first)
        self.work = work
        # Why it ends after the step that runs.
        self.error: RequestError | None = None


class DecodePool:
    """Runs decoding work. Every method may be called from any thread."""

    def __init__(
        self,
        threads: int,
        max_waiting: int,
        max_bytes: int,
        log_failure: FailureLog,
        timer: Timer | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Starts no thread before there is work.

        Args:
            threads: how many steps run at once.
            max_waiting: how many more requests may wait.
            max_bytes: memory that the steps that run may take together. A step of more runs alone.
            log_failure: logs what work raises.
            timer: drops work whose deadline passes; None: that is done when its turn comes.
            clock_s: the time that deadlines are read against.
            supervisor: watches over the threads; None: only their failures are logged.
        """
        self._max_entries = threads + max_waiting
        self._max_bytes = max_bytes
        self._log_failure = log_failure
        self._timer = timer
        self._clock_s = clock_s
        self._order: FairOrder[_Entry] = FairOrder()
        self._entries: dict[Work, _Entry] = {}
        self._used_bytes = 0
        self._alarm_s = float("inf")
        self._is_stopping = False
        self._changed = threading.Condition(threading.Lock())
        supervisor = supervisor or Supervisor(log_failure)
        self._threads = [supervisor.thread(f"decode-{number}", self._work) for number in range(threads)]
        self._unstarted = list(self._threads)

    def submit(self, work: Work) -> None:
        """Takes work. Where the pool is full, a sender with many requests in it makes room for one with fewer.

        Raises:
            Cancelled: it is over already.
            QueueFull: as much work waits as may.
            Unavailable: the pool was stopped.
        """
        entry, victim = _Entry(work), None
        with self._changed:
            if self._is_stopping:
                raise Unavailable(_STOPPING)
            # Checked under the lock, so a concurrent cancel either finds the entry or prevents it.
            if work.is_over:
                raise Cancelled(_LEFT)
            # Before it is taken: what no thread will ever run must not wait.
            self._start_threads()
            if len(self._entries) >= self._max_entries:
                victim = self._order.last_of_greediest(work.sender)
                if victim is None:
                    raise QueueFull(_FULL)
                self._forget(victim)
            self._entries[work] = entry
            self._order.add(entry)
            self._set_alarm(work.deadline_s)
            self._changed.notify()
        if victim is not None:
            self._drop(victim.work, QueueFull(_FULL))

    def drop(self, work: Work, error: RequestError) -> None:
        """Ends work with an error: at once, or after the step that runs. Work that is done or was dropped stays so."""
        with self._changed:
            entry = self._entries.get(work)
            if entry is None:
                return
            if not entry.is_waiting:
                entry.error = entry.error or error
                return
            self._forget(entry)
            # What it kept from running may run.
            self._changed.notify()
        self._drop(work, error)

    def stop(self, deadline_s: float) -> bool:
        """Takes no more work, drops what waits with Unavailable, and ends the threads after the steps that run.

        Returns by `deadline_s`, a `time.monotonic()`, whatever runs; a thread that still decodes ends with the process.

        Returns:
            Whether all threads have ended.
        """
        with self._changed:
            self._is_stopping = True
            left = [entry for entry in self._entries.values() if entry.is_waiting]
            for entry in left:
                self._forget(entry)
            for entry in self._entries.values():
                entry.error = entry.error or Unavailable(_STOPPING)
            self._changed.notify_all()
        for entry in left:
            self._drop(entry.work, Unavailable(_STOPPING))
        # Each of them is told, also after one that does not end.
        ended = [thread.close(max(deadline_s - time.monotonic(), 0)) for thread in self._threads]
        return all(ended)

    def _start_threads(self) -> None:
        while self._unstarted:
            try:
                self._unstarted[-1].start()
            except RuntimeError as error:
                # The system gives no more: those that run do all the work, and the next request tries again.
                if len(self._unstarted) == len(self._threads):
                    raise QueueFull(_NO_THREADS) from error
                return
            self._unstarted.pop()

    def _work(self) -> None:
        while (entry := self._take()) is not None:
            self._finish(entry, self._run(entry))

    def _take(self) -> _Entry | None:
        with self._changed:
            while not self._is_stopping:
                # With nothing else running even a step that is larger than the budget may run.
                free = self._max_bytes - self._used_bytes if self._used_bytes else 1 << 62
                entry = self._order.take(free)
                if entry is not None:
                    self._used_bytes += entry.step.bytes
                    return entry
                self._changed.wait()
            return None

    def _run(self, entry: _Entry) -> Step | RequestError | None:
        if self._is_late(entry):
            return DeadlineExceeded(_LATE)
        try:
            return entry.work.run()
        except BaseException as error:  # noqa: BLE001  this thread must live on, and give back the memory
            return InternalError(_BROKEN.format(self._log_failure(error)))

    def _finish(self, entry: _Entry, outcome: Step | RequestError | None) -> None:
        with self._changed:
            self._used_bytes -= entry.step.bytes
            if isinstance(outcome, Step):
                # It is not done: what came up meanwhile ends it.
                outcome = entry.error or (DeadlineExceeded(_LATE) if self._is_late(entry) else outcome)
            if isinstance(outcome, Step):
                is_measured = entry.step is entry.work.first
                entry.step = outcome
                if is_measured:
                    self._order.tell_size(entry)
                self._order.add(entry)
            else:
                self._forget(entry)
            # Its memory may have been what others wait for, of whom two may fit.
            self._changed.notify_all()
        if outcome is not None and not isinstance(outcome, Step):
            self._drop(entry.work, outcome)

    def _is_late(self, entry: _Entry) -> bool:
        deadline_s = entry.work.deadline_s
        return deadline_s is not None and deadline_s <= self._clock_s()

    def _forget(self, entry: _Entry) -> None:
        del self._entries[entry.work]
        self._order.remove(entry)

    def _drop(self, work: Work, error: RequestError) -> None:
        try:
            work.drop(error)
        except Exception as raised:  # noqa: BLE001  the others must be dropped, and this thread must live on
            self._log_failure(raised)

    def _set_alarm(self, deadline_s: float | None) -> None:
        if self._timer is not None and deadline_s is not None and deadline_s < self._alarm_s:
            self._alarm_s = deadline_s
            self._timer.at(int(deadline_s * 1e9) + 1, self._drop_late)

    def _drop_late(self) -> None:
        with self._changed:
            now_s = self._clock_s()
            late = [entry for entry in self._entries.values() if entry.is_waiting and self._is_late(entry)]
            for entry in late:
                self._forget(entry)
            self._alarm_s = float("inf")
            times = [each.work.deadline_s for each in self._entries.values() if each.work.deadline_s is not None]
            # Those that run are looked at before their next step.
            self._set_alarm(min((each for each in times if each > now_s), default=None))
            if late:
                self._changed.notify_all()
        for entry in late:
            self._drop(entry.work, DeadlineExceeded(_LATE))
