"""Overload: what a server still answers in time, how fast it refuses, and the effect on other clients."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc

from .errors import BenchError
from .flood import Flood, Outcome, percentile
from .http2 import RESET, Connection
from .probe import Probe, polite
from .workload import Workload

TIMES = (1, 2, 5, 10)
"""Rates of the open loop, as multiples of the capacity."""
_LIGHT = 0.7
_IN_FLIGHT = 32
_GREEDY_IN_FLIGHT = 512
_WARM_UP_S = 1.0
# A client has recovered when this many answers in a row have.
_WINDOW = 11
_RECOVERED = 2.0
_CODES = {code.value[0]: code.name for code in grpc.StatusCode} | {RESET: "RESET"}

Say = Callable[[str], None]
"""Receives the name of the next measurement."""
Run = Callable[[], tuple[float, int]]
"""Returns the mean duration in seconds of runs since the last call, and the batch in use (0 if unknown)."""


@dataclass(frozen=True)
class Place:
    """The server under load."""

    host: str
    """The server's name or address, without TLS."""
    port: int
    """Its port."""
    fields: tuple[tuple[str, str], ...] = ()
    """Headers of each request, such as a token."""


@dataclass(frozen=True)
class Level:
    """The outcome at one rate."""

    times: float
    """Its rate, as a multiple of the capacity."""
    offered_per_s: float
    """The generated rate."""
    outcome: Outcome
    """Its outcome."""


@dataclass(frozen=True)
class OverloadReport:
    """A measurement's result."""

    model: str
    """The model's name."""
    deadline_s: float
    """Each request's deadline."""
    connections: int
    """Number of connections."""
    capacity_per_s: float
    """Requests per second in a closed loop with 32 in flight."""
    light: Level
    """At 0.7 of the capacity."""
    levels: Sequence[Level]
    """At the rates of TIMES."""
    alone_s: Sequence[float]
    """A polite client's latencies on an idle server."""
    beside_s: Sequence[float]
    """The same beside a connection with 512 requests in flight."""
    beside_codes: dict[str, int]
    """How these ended."""
    run_s: float
    """Mean duration of a run meanwhile, in seconds; 0 if unknown."""
    batch: int
    """Images in such a run."""
    recovered_s: float | None
    """Seconds after the overload until a polite client's median was within twice that before; None if never."""

    def goodput(self, level: Level) -> float:
        """Returns the ratio of requests answered in time to the capacity."""
        return level.outcome.rate_per_s(self.deadline_s) / self.capacity_per_s

    def beside_percentile_s(self, percent: float) -> float:
        """Returns a percentile of the polite client's latencies beside the greedy one, in seconds."""
        return percentile(self.beside_s, percent)

    def as_json(self) -> dict[str, Any]:
        """Returns everything, times in milliseconds."""
        return {
            "model": self.model,
            "deadline_ms": _ms(self.deadline_s),
            "connections": self.connections,
            "capacity_per_s": round(self.capacity_per_s, 1),
            "levels": [self._level_json(level) for level in (self.light, *self.levels)],
            "polite": {
                "alone_ms": _percentiles(self.alone_s),
                "beside_512_ms": _percentiles(self.beside_s),
                "codes": self.beside_codes,
                "run_ms": _ms(self.run_s),
                "batch": self.batch,
            },
            "recovered_ms": None if self.recovered_s is None else _ms(self.recovered_s),
        }

    def _level_json(self, level: Level) -> dict[str, Any]:
        outcome = level.outcome
        return {
            "times_capacity": level.times,
            "offered_per_s": round(level.offered_per_s, 1),
            "goodput": round(self.goodput(level), 3),
            "accepted_ms": {"p50": _ms(outcome.accepted_s(50)), "p99": _ms(outcome.accepted_s(99))},
            "refused_ms": {"p50": _ms(outcome.refused_s(50)), "p99": _ms(outcome.refused_s(99))},
            "codes": named(outcome.codes),
            "unanswered": outcome.unanswered,
        }

    def lines(self) -> Iterator[str]:
        """Yields the report for people."""
        yield f"{self.model}, deadline {self.deadline_s * 1e3:g} ms, {self.connections} connections"
        yield f"capacity: {self.capacity_per_s:,.0f} requests/s ({_IN_FLIGHT} in flight)"
        yield ""
        yield "   load     sent/s  goodput  accepted p50, p99 ms   refused p50, p99 ms  ended"
        for level in (self.light, *self.levels):
            outcome = level.outcome
            codes = ", ".join(f"{name} {count:,}" for name, count in named(outcome.codes).items())
            lost = f", unanswered {outcome.unanswered:,}" if outcome.unanswered else ""
            yield (
                f"{level.times:>5g} x {level.offered_per_s:>10,.0f} {self.goodput(level):>8.2f} "
                f"{_pair(outcome.accepted_s):>22} {_pair(outcome.refused_s):>21}  {codes}{lost}"
            )
        yield ""
        yield f"polite client alone: {_shown(self.alone_s)}"
        yield f"beside {_GREEDY_IN_FLIGHT} in flight: {_shown(self.beside_s)}{self._runs()}"
        yield "  ended " + ", ".join(f"{name} {count:,}" for name, count in self.beside_codes.items())
        recovered = "not within the measurement" if self.recovered_s is None else f"{self.recovered_s * 1e3:.0f} ms"
        yield f"within twice its latency after the last overload: {recovered}"

    def _runs(self) -> str:
        if not self.run_s:
            return ""
        runs = [self.beside_percentile_s(percent) / self.run_s for percent in (50, 99)]
        return f", {runs[0]:.1f} and {runs[1]:.1f} runs of {self.batch} images ({self.run_s * 1e3:.1f} ms)"


def measure_overload(
    model: str,
    workload: Workload,
    place: Place,
    *,
    connections: int,
    deadline_s: float,
    seconds: float,
    run: Run = lambda: (0.0, 0),
    say: Say = lambda _: None,
) -> OverloadReport:
    """Overloads a server and returns the report.

    Args:
        model: the model's name.
        workload: the requests to send.
        place: the server.
        connections: number of connections for the load; the polite client uses another.
        deadline_s: each request's deadline.
        seconds: duration of each rate.
        run: returns the server's runs.
        say: see `Say`.

    Raises:
        BenchError: the server cannot be reached, or answered nothing.
    """
    timeout = ("grpc-timeout", f"{max(1, round(deadline_s * 1e3))}m")
    target = (place.host, place.port, workload.method, workload.bodies)
    with ExitStack() as stack:

        def connect(count: int, *fields: tuple[str, str]) -> Flood:
            opened = []
            for _ in range(count):
                try:
                    opened.append(Connection(*target, (*fields, *place.fields)))
                except OSError as error:
                    raise BenchError(f"cannot connect to {place.host}:{place.port}: {error}") from error
                stack.callback(opened[-1].close)
            return Flood(opened)

        flood = connect(connections, timeout)
        say("capacity")
        flood.closed(_IN_FLIGHT, _WARM_UP_S)
        closed = flood.closed(_IN_FLIGHT, seconds)
        capacity_per_s = closed.rate_per_s(deadline_s)
        if not capacity_per_s:
            raise BenchError(f"no request was answered in time: {named(closed.codes) or 'none ended'}")

        def level(times: float) -> Level:
            say(f"{times:g} x capacity")
            outcome = flood.opened(times * capacity_per_s, seconds)
            sent = outcome.codes.total() + outcome.unanswered
            return Level(times, sent / outcome.seconds, outcome)

        with polite(*target, place.fields) as client:
            light = level(_LIGHT)
            levels = [level(times) for times in TIMES[:-1]]
            say("polite client alone")
            time.sleep(_WARM_UP_S)
            quiet_s = time.monotonic()
            time.sleep(seconds / 2)
            burst_s = time.monotonic()
            levels.append(level(TIMES[-1]))
            over_s = burst_s + levels[-1].outcome.seconds
            say("recovery")
            time.sleep(max(0.0, over_s + seconds / 2 - time.monotonic()))
            say(f"polite client beside {_GREEDY_IN_FLIGHT} in flight")
            greedy = connect(1)
            greedy.closed(_GREEDY_IN_FLIGHT, _WARM_UP_S)
            run()
            beside_s = time.monotonic()
            greedy.closed(_GREEDY_IN_FLIGHT, seconds)
            run_s, batch = run()
            probes = client.end()
    alone = _between(probes, quiet_s, burst_s)
    beside = _between(probes, beside_s, beside_s + seconds)
    return OverloadReport(
        model,
        deadline_s,
        connections,
        capacity_per_s,
        light,
        levels,
        [each.latency_s for each in alone],
        [each.latency_s for each in beside],
        named({status: sum(each.status == status for each in beside) for status in {each.status for each in beside}}),
        run_s,
        batch,
        recovered_s(_between(probes, over_s, beside_s - _WARM_UP_S), [each.latency_s for each in alone], over_s),
    )


def recovered_s(after: Sequence[Probe], before_s: Sequence[float], over_s: float) -> float | None:
    """Returns seconds from `over_s` until a client's median latency is within twice that before, or None."""
    if not before_s:
        return None
    most_s = _RECOVERED * statistics.median(before_s)
    for first in range(len(after) - _WINDOW + 1):
        window = after[first : first + _WINDOW]
        if statistics.median(each.latency_s for each in window) <= most_s:
            # The first recovered one.
            return max(0.0, next(each.start_s for each in window if each.latency_s <= most_s) - over_s)
    return None


def _between(probes: Sequence[Probe], start_s: float, end_s: float) -> list[Probe]:
    return [each for each in probes if start_s <= each.start_s < end_s]


def named(codes: Any) -> dict[str, int]:
    """Returns counts by the names of gRPC statuses."""
    return {_CODES.get(status, str(status)): count for status, count in sorted(codes.items())}


def _ms(seconds: float) -> float | None:
    return None if seconds != seconds else round(seconds * 1e3, 3)


def _percentiles(latencies_s: Sequence[float]) -> dict[str, float | None]:
    return {f"p{percent}": _ms(percentile(latencies_s, percent)) for percent in (50, 99)}


def _pair(of: Callable[[float], float]) -> str:
    return ", ".join("–" if (found := of(percent)) != found else f"{found * 1e3:.1f}" for percent in (50, 99))


def _shown(latencies_s: Sequence[float]) -> str:
    found = [percentile(latencies_s, percent) * 1e3 for percent in (50, 99)]
    return f"p50 {found[0]:.1f} ms, p99 {found[1]:.1f} ms"
