"""The two ways to generate load: so many at a time, or so many a second."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .record import Record
from .timeline import Timeline

Send = Callable[[Callable[[str], None]], None]
"""Sends the next request, and calls what it is given once, from any thread, with the name of the final gRPC status."""


@dataclass(frozen=True)
class Extent:
    """How long a measurement takes: a time, or a number of requests."""

    warmup_s: float
    """Seconds of load before the first request that counts."""
    duration_s: float | None = None
    """Seconds within which requests that count start; None: `requests` ends it."""
    requests: int | None = None
    """How many requests count; None: `duration_s` ends it."""


class _Quota:
    """Says whether one more request may start."""

    def __init__(self, extent: Extent, from_s: float) -> None:
        self._from_s = from_s
        self._end_s = float("inf") if extent.duration_s is None else from_s + extent.duration_s
        self._left = extent.requests
        self._lock = threading.Lock()
        self.is_stopped = False

    def take(self, start_s: float) -> bool:
        """Returns whether a request meant to start at `start_s` may, and counts it."""
        if self.is_stopped or start_s >= self._end_s:
            return False
        if self._left is None or start_s < self._from_s:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0


class ClosedLoop:
    """`concurrency` users, each of whom sends the next request when the last one has ended.

    A server that stalls is asked less in the meantime, so a stall shows in few latencies: right for the highest rate a
    server can do, wrong for what users of a given rate would feel. That is `OpenLoop`.
    """

    def __init__(self, send: Send, timeline: Timeline, *, concurrency: int) -> None:
        """Stores what it is given."""
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
            # Ctrl-C gets here while users are at work.
            quota.is_stopped = True
        return record

    def _leave(self) -> None:
        with self._lock:
            self._working -= 1
            if self._working:
                return
        self._is_over.set()


class _User:
    """Sends one request after the other, without a thread: each end sends the next."""

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
        """Sends until one is under way, or none may be sent any more."""
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
        # `send` returning and the request ending race, on two threads or, where it fails at once, on one stack. Whoever
        # comes second goes on; so thousands of immediate failures do not nest.
        try:
            self._first.pop()
        except IndexError:
            return False
        return True


class OpenLoop:
    """`rate_per_s` requests a second, evenly spaced, whether or not earlier ones have ended.

    A request's latency counts from when it was to start, so a stall, wherever it happens, shows in the latency of each
    request that fell into it (no coordinated omission). That holds too where `max_under_way` makes one wait, without
    which a server that answers nothing would fill the memory with requests.
    """

    def __init__(self, send: Send, timeline: Timeline, *, rate_per_s: float, max_under_way: int = 10_000) -> None:
        """Stores what it is given."""
        self._send = send
        self._timeline = timeline
        self._rate_per_s = rate_per_s
        self._max_under_way = max_under_way
        self._lock = threading.Lock()
        # One of them is the loop itself, so that nothing is over before it has sent the last request.
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
