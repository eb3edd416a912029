"""Measures a server's rate, batches, CPU time and memory by requests in flight, for `pixelserve plan`."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pixelserve.capacity.curve import FORMAT, KIND

from .errors import BenchError
from .flood import Flood, Outcome, percentile
from .http2 import Connection
from .overload import Place, Say, named
from .page import Usage
from .report import plural
from .workload import Workload

IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64)
"""Requests in flight; above 64 the committed models gain nothing."""
_OK = 0
_CONNECTIONS = 8
_WARM_UP_S = 1.0
# A level's rate is the median of these, so a busy moment of the machine affects only one.
_SLICES = 5
# A server that computes all the time uses a core or more.
_BUSY_CORES = 0.85
# A size with so few runs is not the server's limit.
_RARE = 0.05
# Shares of the requests, from the fastest to the slowest, whose mean latencies describe how a lone request varies.
BANDS = (0.5, 0.3, 0.1, 0.05, 0.03, 0.012, 0.005, 0.003)
"""They sum to 1. The last ones are narrow because p99 depends on them; none ends at p99, where it would jump."""

Sizes = Callable[[], dict[int, tuple[int, int]]]
"""Returns the runs since the last call, and their nanoseconds, by images per run."""


@dataclass(frozen=True)
class Level:
    """A closed loop with a number of requests in flight."""

    in_flight: int
    """Requests in flight."""
    requests_per_s: float
    """Requests answered with OK per second."""
    images_per_run: float
    """Mean images in a run of the model."""
    cpu_s: float | None
    """The server's CPU time per request, in seconds; None if its metrics page was not read."""
    slices_s: Sequence[Sequence[float]]
    """Latencies of requests in seconds, by slice of the measurement."""
    sizes: dict[int, tuple[int, int]]
    """Runs and their nanoseconds, by images per run."""

    @property
    def latencies_s(self) -> list[float]:
        """Latencies of requests in seconds, ascending."""
        return sorted(latency_s for slice_s in self.slices_s for latency_s in slice_s)

    def as_json(self) -> dict[str, Any]:
        """Returns it with times in milliseconds."""
        return {
            "in_flight": self.in_flight,
            "requests_per_s": round(self.requests_per_s, 3),
            "images_per_run": round(self.images_per_run, 4),
            "cpu_ms_per_request": None if self.cpu_s is None else _ms(self.cpu_s),
            "latency_ms": {
                "mean": _ms(statistics.fmean(self.latencies_s)),
                **{f"p{percent}": _ms(percentile(self.latencies_s, percent)) for percent in (50, 99)},
            },
        }


@dataclass(frozen=True)
class Curve:
    """A measurement's result."""

    model: str
    """The model's name."""
    version: str
    """Its version."""
    method: str
    """gRPC method as /service/method."""
    images: int
    """Images in each request."""
    sessions: int
    """Sessions of the model, which run concurrently."""
    levels: Sequence[Level]
    """By requests in flight, ascending."""
    memory_bytes: int | None
    """The largest observed memory of the server; None if its metrics page was not read."""

    @property
    def largest_run(self) -> int:
        """The largest number of images that runs had regularly."""
        runs: Counter[int] = Counter()
        for level in self.levels:
            total = sum(count for count, _ in level.sizes.values())
            runs.update(size for size, (count, _) in level.sizes.items() if count > _RARE * total)
        return max(runs)

    @property
    def busy_cores(self) -> float | None:
        """Cores that the server used at the highest level; None if its metrics page was not read."""
        last = self.levels[-1]
        return None if last.cpu_s is None else last.cpu_s * last.requests_per_s

    def as_json(self) -> dict[str, Any]:
        """Returns the input of `plan`, with times in milliseconds."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "method": self.method,
            "images_per_request": self.images,
            "sessions": self.sessions,
            "largest_run_images": self.largest_run,
            "run_ms_by_images": {str(size): _ms(ns / 1e9 / runs) for size, (runs, ns) in self._runs()},
            "alone_ms": [[share, _ms(mean_s)] for share, mean_s in alone(self.levels[0].slices_s)],
            "levels": [level.as_json() for level in self.levels],
            "memory_bytes": self.memory_bytes,
        }

    def _runs(self) -> list[tuple[int, tuple[int, int]]]:
        found: dict[int, tuple[int, int]] = {}
        for level in self.levels:
            for size, (runs, ns) in level.sizes.items():
                before, ns_before = found.get(size, (0, 0))
                found[size] = before + runs, ns_before + ns
        return sorted(found.items())

    def lines(self) -> Iterator[str]:
        """Yields the report for people."""
        yield f"{self.model} version {self.version}, {self.method}, {plural(self.images, 'image')} per request"
        yield ""
        yield "in flight  requests/s  images/run  CPU ms/request    mean ms     p99 ms"
        for level in self.levels:
            cpu = "–" if level.cpu_s is None else f"{level.cpu_s * 1e3:.3f}"
            yield (
                f"{level.in_flight:>9} {level.requests_per_s:>11,.0f} {level.images_per_run:>11.2f} {cpu:>15} "
                f"{statistics.fmean(level.latencies_s) * 1e3:>10.3f} {percentile(level.latencies_s, 99) * 1e3:>10.3f}"
            )
        if self.busy_cores is not None and self.busy_cores < _BUSY_CORES:
            yield (
                f"note: under full load the server used {self.busy_cores:.2f} cores; unless it waits for a GPU, "
                "something else used its cores, and the rates are too low"
            )
        if self.memory_bytes is not None:
            yield f"memory: {self.memory_bytes / 2**20:,.0f} MiB"


def alone(slices_s: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Returns `BANDS` with the median latency of the slices, which ignores a stall of the machine in one of them."""
    by_slice = [[mean_s for _, mean_s in bands(slice_s)] for slice_s in slices_s if slice_s]
    return list(zip(BANDS, map(statistics.median, zip(*by_slice, strict=True)), strict=True))


def bands(latencies_s: Sequence[float]) -> list[tuple[float, float]]:
    """Returns `BANDS` with the mean latency of each, in seconds."""
    ordered, found, end = sorted(latencies_s), [], 0.0
    for share in BANDS:
        first = min(int(end * len(ordered)), len(ordered) - 1)
        end += share
        last = max(first + 1, round(end * len(ordered)))
        found.append((share, statistics.fmean(ordered[first:last])))
    return found


def measure_curve(
    workload: Workload,
    place: Place,
    *,
    seconds: float,
    sizes: Sizes,
    usage: Callable[[], Usage] | None,
    say: Say = lambda _: None,
) -> tuple[list[Level], int | None]:
    """Measures each number in flight; returns the levels and the most memory.

    Args:
        workload: the requests to send.
        place: the server.
        seconds: duration of each level.
        sizes: returns the server's runs.
        usage: returns the usage of the server's process, or None.
        say: see `Say`.

    Raises:
        BenchError: the server cannot be reached, a request failed, or the server does not report its runs.
    """
    connections: list[Connection] = []
    levels, memory_bytes = [], None
    try:
        for _ in range(_CONNECTIONS):
            try:
                connections.append(Connection(place.host, place.port, workload.method, workload.bodies, place.fields))
            except OSError as error:
                raise BenchError(f"cannot connect to {place.host}:{place.port}: {error}") from error
        Flood(connections).closed(_CONNECTIONS, _WARM_UP_S)
        for in_flight in IN_FLIGHT:
            say(f"{in_flight} in flight")
            flood = Flood(connections[:in_flight])
            before = usage() if usage else None
            sizes()
            outcomes = [flood.closed(in_flight, seconds / _SLICES) for _ in range(_SLICES)]
            after = usage() if usage else None
            levels.append(_level(in_flight, outcomes, sizes(), before, after, workload.images))
            memory_bytes = max(memory_bytes or 0, after.memory_bytes) if after else None
    finally:
        for connection in connections:
            connection.close()
    return levels, memory_bytes


def _level(
    in_flight: int,
    outcomes: Sequence[Outcome],
    sizes: dict[int, tuple[int, int]],
    before: Usage | None,
    after: Usage | None,
    images: int,
) -> Level:
    codes = sum((outcome.codes for outcome in outcomes), Counter[int]())
    if set(codes) != {_OK}:
        raise BenchError(
            f"with {in_flight} in flight, not every request was answered with OK: {named(codes) or 'none'}"
        )
    if not sizes:
        raise BenchError("the server does not report its runs (ModelStatistics); a token needs the scope observe")
    runs = sum(count for count, _ in sizes.values())
    computed = sum(size * count for size, (count, _) in sizes.items())
    cpu_s = (after.cpu_s - before.cpu_s) / (computed / images) if before and after else None
    slices_s = [outcome.latencies_s.get(_OK, []) for outcome in outcomes]
    rate_per_s = statistics.median(outcome.rate_per_s() for outcome in outcomes)
    if not rate_per_s:
        raise BenchError(
            f"with {in_flight} in flight, most of the time no request was answered; use a longer --duration-s"
        )
    return Level(in_flight, rate_per_s, computed / runs, cpu_s, slices_s, sizes)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 6)
