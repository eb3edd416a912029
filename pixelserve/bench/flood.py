"""Load over raw connections from one thread, as a closed or an open loop."""

import math
import select
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .http2 import Connection

_OK, _RESOURCE_EXHAUSTED = 0, 8
# Requests without an answer after this count as unanswered; longer than any deadline here.
_DRAIN_S = 5.0
# Maximum duration of a turn of the loop, and so the delay of due requests.
_TURN_S = 0.002


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` of the values do not exceed; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass
class Outcome:
    """The outcome of one measurement."""

    seconds: float = 0.0
    """Duration of sending, in seconds."""
    latencies_s: dict[int, list[float]] = field(default_factory=dict)
    """Latencies from the intended start, in seconds, by gRPC status."""
    unanswered: int = 0
    """Requests that never ended."""

    def add(self, status: int, latency_s: float) -> None:
        """Adds a request that ended."""
        self.latencies_s.setdefault(status, []).append(latency_s)

    @property
    def codes(self) -> Counter[int]:
        """How many requests ended with each status."""
        return Counter({status: len(latencies_s) for status, latencies_s in sorted(self.latencies_s.items())})

    def rate_per_s(self, within_s: float = math.inf) -> float:
        """Returns requests per second answered with OK within a time."""
        in_time = sum(latency_s <= within_s for latency_s in self.latencies_s.get(_OK, ()))
        return in_time / self.seconds if self.seconds else 0.0

    def accepted_s(self, percent: float) -> float:
        """Returns a percentile of the latencies of requests that were answered with OK."""
        return percentile(self.latencies_s.get(_OK, ()), percent)

    def refused_s(self, percent: float) -> float:
        """Returns a percentile of the latencies of refused requests."""
        return percentile(self.latencies_s.get(_RESOURCE_EXHAUSTED, ()), percent)


class Flood:
    """Sends load over open connections, in turn."""

    def __init__(self, connections: Sequence[Connection], now_s: Callable[[], float] = time.monotonic) -> None:
        self._connections = connections
        self._now_s = now_s
        self._next = 0

    def closed(self, in_flight: int, seconds: float) -> Outcome:
        """Keeps `in_flight` requests in flight for `seconds`, and waits for the answers."""
        outcome, start_s = Outcome(seconds), self._now_s()
        end_s = start_s + seconds
        ended = [0]

        def count(due_s: float, status: int) -> None:
            ended[0] += 1
            if (now_s := self._now_s()) <= end_s:
                outcome.add(status, now_s - due_s)

        for _ in range(in_flight):
            self._send(start_s)
        while (now_s := self._now_s()) < end_s:
            self._turn(0.05, count)
            now_s = self._now_s()
            for _ in range(ended[0]):
                self._send(now_s)
            ended[0] = 0
        self._drain(outcome, count)
        return outcome

    def opened(self, rate_per_s: float, seconds: float) -> Outcome:
        """Sends requests at a rate for `seconds`, evenly spaced, and waits for the answers."""
        return self.due([number / rate_per_s for number in range(int(rate_per_s * seconds))], seconds)

    def due(self, moments_s: Sequence[float], seconds: float) -> Outcome:
        """Sends requests at `moments_s` (ascending, in seconds from now), and waits for the answers."""
        start_s = self._now_s()
        outcome, number = Outcome(seconds), 0

        def count(due_s: float, status: int) -> None:
            outcome.add(status, self._now_s() - due_s)

        while number < len(moments_s):
            due = bisect_right(moments_s, self._now_s() - start_s, number)
            for moment_s in moments_s[number:due]:
                self._send(start_s + moment_s)
            number = due
            left_s = start_s + moments_s[min(due, len(moments_s) - 1)] - self._now_s()
            self._turn(min(_TURN_S, max(0.0, left_s)), count)
        # Longer than intended if the generator could not keep up.
        outcome.seconds = max(seconds, self._now_s() - start_s)
        self._drain(outcome, count)
        return outcome

    def _send(self, due_s: float) -> None:
        self._connections[self._next].send(due_s)
        self._next = (self._next + 1) % len(self._connections)

    def _turn(self, wait_s: float, ended: Callable[[float, int], None]) -> None:
        wants_writing = [each for each in self._connections if each.has_output]
        readable, writable, _ = select.select(
            [each.socket for each in self._connections], [each.socket for each in wants_writing], [], wait_s
        )
        for each in wants_writing:
            if each.socket in writable:
                each.write()
        for each in self._connections:
            if each.socket in readable:
                each.read(ended)

    def _drain(self, outcome: Outcome, ended: Callable[[float, int], None]) -> None:
        end_s = self._now_s() + _DRAIN_S
        while self._now_s() < end_s and any(each.unanswered for each in self._connections):
            self._turn(0.02, ended)
        outcome.unanswered = sum(each.unanswered for each in self._connections)
        for each in self._connections:
            each.forget_waiting()
