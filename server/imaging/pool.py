"""The decoding thread pool: a few threads, fair order, bounded memory. They never dispatch calls or run batches.

Guarantees:
- accepted work runs step by step until it is done, or is dropped with one error;
- the memory of running steps is within the budget, if their estimates are right;
- waiting work leaves, and frees its place, as soon as its deadline passes or it is dropped; running work leaves after
  its current step;
- after `stop` no work waits, whatever hangs.
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
"""Maximum waiting requests per server, in addition to those whose pictures are being decoded."""

_FULL = "too many requests wait for their pictures to be decoded; retry later"
_LATE = "the deadline passed before the request's pictures were decoded; allow more time, or send fewer or smaller ones"
_LEFT = "the caller left before its pictures were decoded"
_BROKEN = "internal error while pictures were decoded; the server's log has the details under {}"
_NO_THREADS = "no thread can be started to decode pictures; retry later"
_STOPPING = "the server is stopping; send the request to another replica, or again in a moment"


class Work(Protocol):
    """The pool's work for one request."""

    sender: Hashable
    """Its sender; senders get equal shares."""
    deadline_s: float | None
    """Deadline by `time.monotonic()`, or None."""
    first: Step
    """Its first step, known before reading any picture."""
    is_over: bool
    """Whether it was cancelled; the pool refuses cancelled work."""

    def run(self) -> Step | None:
        """Does one step and returns the next, or None when done."""

    def drop(self, error: RequestError) -> None:
        """Ends it unfinished; called at most once, on any thread, never during `run`."""


class _Entry(Place):
    def __init__(self, work: Work) -> None:
        super().__init__(work.sender, work.first)
        self.work = work
        # The error that ends it after the current step.
        self.error: RequestError | None = None


class DecodePool:
    """Runs decoding work. Thread-safe."""

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
        """Starts threads on demand.

        Args:
            threads: maximum concurrent steps.
            max_waiting: maximum waiting requests in addition.
            max_bytes: maximum memory of all running steps. A larger step runs alone.
            log_failure: logs exceptions of work.
            timer: drops work when its deadline passes; None: it is dropped when its turn comes.
            clock_s: the clock of deadlines.
            supervisor: supervises the threads; None: only their failures are logged.
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
        """Queues work. If the pool is full, a sender with many requests makes room for one with fewer.

        Raises:
            Cancelled: it was already cancelled.
            QueueFull: the maximum of requests waits.
            Unavailable: the pool was stopped.
        """
        entry, victim = _Entry(work), None
        with self._changed:
            if self._is_stopping:
                raise Unavailable(_STOPPING)
            # Checked under the lock, so a concurrent cancel either finds the entry or prevents it.
            if work.is_over:
                raise Cancelled(_LEFT)
            # Before it is queued: it must not wait if no thread can run it.
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
        """Ends work with an error, at once or after the current step. Does nothing to finished or dropped work."""
        with self._changed:
            entry = self._entries.get(work)
            if entry is None:
                return
            if not entry.is_waiting:
                entry.error = entry.error or error
                return
            self._forget(entry)
            # Work that waited for it may run.
            self._changed.notify()
        self._drop(work, error)

    def stop(self, deadline_s: float) -> bool:
        """Refuses new work, drops waiting work with Unavailable, and ends the threads after their current steps.

        Returns by `deadline_s` (`time.monotonic()`) in any case; threads still decoding end with the process.

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
        # Closes every thread, even if one does not end.
        ended = [thread.close(max(deadline_s - time.monotonic(), 0)) for thread in self._threads]
        return all(ended)

    def _start_threads(self) -> None:
        while self._unstarted:
            try:
                self._unstarted[-1].start()
            except RuntimeError as error:
                # The system cannot start more: the existing threads do all the work; the next request retries.
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
                # If nothing else runs, even a step above the budget may run.
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
        except BaseException as error:  # noqa: BLE001  this thread must continue and release the memory
            return InternalError(_BROKEN.format(self._log_failure(error)))

    def _finish(self, entry: _Entry, outcome: Step | RequestError | None) -> None:
        with self._changed:
            self._used_bytes -= entry.step.bytes
            if isinstance(outcome, Step):
                # It is not done; an error that came meanwhile ends it.
                outcome = entry.error or (DeadlineExceeded(_LATE) if self._is_late(entry) else outcome)
            if isinstance(outcome, Step):
                is_measured = entry.step is entry.work.first
                entry.step = outcome
                if is_measured:
                    self._order.tell_size(entry)
                self._order.add(entry)
            else:
                self._forget(entry)
            # Its freed memory may fit two waiting steps.
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
        except Exception as raised:  # noqa: BLE001  the others must be dropped, and this thread must continue
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
            # Running work is checked before its next step.
            self._set_alarm(min((each for each in times if each > now_s), default=None))
            if late:
                self._changed.notify_all()
        for entry in late:
            self._drop(entry.work, DeadlineExceeded(_LATE))
