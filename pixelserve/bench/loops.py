"""The two ways to generate load: a closed loop and an open loop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .record import Record
from .timeline import Timeline

Send = Callable[[Callable[[str], None]], None]
"""Sends the next request; calls its argument once, from any thread, with the name of the final gRPC status."""


@dataclass(frozen=True)
class Extent:
    """The extent of a measurement: a duration or a number of requests."""

    warmup_s: float
    """Seconds of warm-up before the first counted request."""
    duration_s: float | None = None
    """Seconds in which counted requests start; None: `requests` decides."""
    requests: int | None = None
    """Number of counted requests; None: `duration_s` decides."""


class _Quota:
    """Decides whether another request may start."""

    def __init__(self, extent: Extent, from_s: float) -> None:
        self._from_s = from_s
        self._end_s = float("inf") if extent.duration_s is None else from_s + extent.duration_s
        self._left = extent.requests
        self._lock = threading.Lock()
        self.is_stopped = False

    def take(self, start_s: float) -> bool:
        """Returns whether a request with this intended start may start, and counts it if so."""
        if self.is_stopped or start_s >= self._end_s:
            return False
        if self._left is None or start_s < self._from_s:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0


class ClosedLoop:
    """`concurrency` users, each of whom sends its next request when its last one ends.

    A stalled server receives fewer requests, so a stall shows in few latencies: right for a server's highest rate,
    wrong for the latency that users see at a given rate. Use `OpenLoop` for that.
    """

    def __init__(self, send: Send, timeline: Timeline, *, concurrency: int) -> None:
        self._send = send
        self._timeline = timeline
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._working = concurrency
        self._is_over = threading.Event()

    def run(self, extent: Extent) -> Record:
        """Generates the load; returns when all requests have ended."""
        record = Record(self._timeline.now_s() + extent.warmup_s)
        quota = _Quota(extent, record.from_s)
        try:
            for _ in range(self._concurrency):
                _User(self._send, self._timeline, quota, record, self._leave).work()
            self._timeline.wait(self._is_over)
        finally:
            # Ctrl-C arrives here while users are sending.
            quota.is_stopped = True
        return record

    def _leave(self) -> None:
        with self._lock:
            self._working -= 1
            if self._working:
                return
        self._is_over.set()


class _User:
    """Sends one request after the other without a thread: each end sends the next."""

    def __init__(
        self, send: Send, timeline: Timeline, quota: _Quota, record: Record, leave: Callable[[], None]
    ) -> None:
        self._send = send
        self._timeline = timeline
        self._quota = quota
        self._record = record
        self._leave = leave
        self._sent_s = 0.0
        self._first: list[None] = []

    def work(self) -> None:
        """Sends until one is in flight, or the quota is used up."""
        while True:
            self._sent_s = self._timeline.now_s()
            if not self._quota.take(self._sent_s):
                self._leave()
                return
            self._first.append(None)
            self._send(self._end)
            if self._is_first():
                return

    def _end(self, status: str) -> None:
        self._record.add(status, self._sent_s, self._sent_s, self._timeline.now_s())
        if not self._is_first():
            self.work()

    def _is_first(self) -> bool:
        # The return of `send` and the end of the request race, on two threads or, if it fails at once, on one stack.
        # The second one continues, so thousands of immediate failures do not nest.
        try:
            self._first.pop()
        except IndexError:
            return False
        return True


class OpenLoop:
    """`rate_per_s` requests per second, evenly spaced, whether or not earlier ones have ended.

    Latency counts from the intended start, so a stall, wherever it happens, shows in the latency of every affected
    request (no coordinated omission). This includes waits for `max_under_way`, which bounds memory if the server
    answers nothing.
    """

    def __init__(self, send: Send, timeline: Timeline, *, rate_per_s: float, max_under_way: int = 10_000) -> None:
        self._send = send
        self._timeline = timeline
        self._rate_per_s = rate_per_s
        self._max_under_way = max_under_way
        self._lock = threading.Lock()
        # The loop itself counts as one, so the measurement cannot end before the last request is sent.
        self._under_way = 1
        self._has_room = threading.Event()
        self._is_over = threading.Event()

    def run(self, extent: Extent) -> Record:
        """Generates the load; returns when all requests have ended."""
        start_s = self._timeline.now_s()
        record = Record(start_s + extent.warmup_s)
        quota = _Quota(extent, record.from_s)
        number = 0
        while quota.take(intended_s := start_s + number / self._rate_per_s):
            self._timeline.sleep_until(intended_s)
            self._start(record, intended_s)
            number += 1
        self._end_one()
        self._timeline.wait(self._is_over)
        return record

    def _start(self, record: Record, intended_s: float) -> None:
        self._begin_one()
        sent_s = self._timeline.now_s()

        def end(status: str) -> None:
            record.add(status, intended_s, sent_s, self._timeline.now_s())
            self._end_one()

        self._send(end)

    def _begin_one(self) -> None:
        with self._lock:
            self._under_way += 1
            if self._under_way <= self._max_under_way + 1:
                return
            self._has_room.clear()
        self._timeline.wait(self._has_room)

    def _end_one(self) -> None:
        with self._lock:
            self._under_way -= 1
            is_over = not self._under_way
            if not self._has_room.is_set():
                self._has_room.set()
        if is_over:
            self._is_over.set()
