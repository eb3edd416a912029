"""Measurements, their ratios, and the bars for these; `table` lists the ratios."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

OURS, OURS_GRPCIO, TRITON, BARE = "PixelServe", "PixelServe on grpcio", "Triton", "bare grpcio"
ALONE = "ONNX Runtime alone"
OURS_TLS = "PixelServe with TLS"
OURS_TWO_CORES = "PixelServe on two cores"
COUNTED, UNCOUNTED = "PixelServe with metrics", "PixelServe without metrics"
ONE_MODEL, MANY_MODELS = "PixelServe with 1 model", "PixelServe with many models"
COMMITTED, MOBILENET, EFFICIENTNET = "PixelServe with its committed models", "MobileNetV2", "EfficientNetB0"
ONE_COMMITTED = "PixelServe with mnist-cnn alone"
DIGITS, JPEGS, PHOTOS = "PNG digits", "JPEGs of 224 × 224", "photos of 12 megapixels"
LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Requests in flight in the charts."""
CONNECTIONS = 4
"""Connections of the figures with several."""
HTTP_LEVELS = (1, 8, 32)
"""Requests in flight over HTTP."""
SWEEPS = 3
"""Measurements per level, so a burst of other load does not distort the line."""
EARLY_REQUESTS = 10_000
"""Requests before the first memory measurement."""
EARLY_SWAPS = 50
"""Swaps before the first memory measurement."""
ROUNDS_AN_OVERLOAD = 3
"""Rounds per overload measurement, which takes half a minute."""
TARGET_LEVELS = (0.5, 1.0, 2.0, 4.0, 2.0, 1.0, 0.5)
"""The load of a server with a latency target, as multiples of its capacity."""
SWAPS_A_ROUND = 3
"""Version swaps under load per round."""
COSTS_A_ROUND = 2
"""CPU time measurements per round."""
# Rounding must not move the ends.
_EXACT = 1e-9


class Kind(StrEnum):
    """The method of a measurement."""

    H2LOAD = "h2load"
    """By h2load, one body."""
    BESIDE = "h2load, beside a busy process"
    """The same while another process keeps the server's core busy."""
    HTTP = "h2load over HTTP/1.1"
    """By h2load, the same request over HTTP, with one connection per request in flight."""
    FIXED = "fixed body"
    """By our own generator, one body."""
    DISTINCT = "distinct bodies"
    """By our own generator, with a distinct id and pixels in every request."""
    ALONE = "alone"
    """In-process, without a server."""
    ONE_CALL = "one ModelStreamInfer call"
    """By our own generator, one body, all requests on one call."""
    RESIDENT = "resident memory"
    """The memory of a separate server after a number of requests or swaps."""
    SWAPPED = "around swaps"
    """By our own generator: the second of a version swap, in a separate server."""
    STEADY = "right before swaps"
    """The second before."""
    SPENT = "CPU time per request beside other servers"
    """The server's CPU time for a number of requests by h2load."""
    CPU = "CPU time per request"
    """The same in a separate server."""
    SCRAPE = "CPU time of a scrape"
    """The same for requests to its metrics page."""
    IDLE = "idle connections"
    """The memory per connection after one call, in a separate server."""
    HELD = "calls held in flight"
    """The memory per queued call, in a separate server."""
    LOADED = "loaded"
    """A server's start, or a model's load: seconds, and memory held afterwards."""
    CAPACITY = "capacity"
    """The rate of a closed loop with 32 in flight, in a separate server with one thread for the model."""
    OVERLOADED = "overloaded"
    """The same server at a multiple of its capacity (0: 0.7 times)."""
    POLITE = "polite client beside 512 in flight"
    """One request at a time beside a connection with 512, in the same server."""
    TUNED = "tuned"
    """By h2load, one body, in a separate server with the engines that `pixelserve autotune` chose."""
    UNTUNED = "default engine"
    """The same in a server with its defaults."""
    CLASSIFIED = "Classify"
    """Pictures by Classify over gRPC, in a separate server."""
    PREPARED = "bare loop"
    """The same files decoded and prepared by a loop on the same core."""
    KEPT = "with a latency target"
    """One level of a load that doubles and halves, on a separate server with a latency target."""
    BEST_FIXED = "best fixed setting"
    """The same level on the server whose queue size accepted most among those that kept the target."""
    TARGET = "target"
    """The latency target."""
    RUN = "a run of the model"
    """The duration of a run meanwhile."""
    REFUSAL_LIMIT = "limit of a refusal"
    """The maximum duration of a refusal."""
    LIMIT = "limit"
    """The limits of these."""


_APART = (
    *(Kind.RESIDENT, Kind.SWAPPED, Kind.STEADY, Kind.CPU, Kind.SCRAPE),
    *(Kind.IDLE, Kind.HELD, Kind.LOADED, Kind.LIMIT, Kind.OVERLOADED, Kind.POLITE),
    *(Kind.CLASSIFIED, Kind.TUNED, Kind.KEPT),
)


@dataclass(frozen=True)
class Measurement:
    """A measurement."""

    kind: Kind
    """How."""
    server: str
    """What answers."""
    in_flight: int = 1
    """Requests in flight."""
    images: int = 1
    """Images a request."""
    connections: int = 1
    """HTTP/2 connections that share the requests in flight evenly."""
    requests: int = 0
    """Requests before memory is measured, or whose CPU time is measured."""
    swaps: int = 0
    """Version swaps before memory is measured."""

    def __str__(self) -> str:
        if self.kind == Kind.ALONE:
            return self.server
        if self.kind == Kind.RESIDENT:
            return f"after {self.swaps or self.requests:,}"
        images = f", {self.images} images each" if self.images > 1 else ""
        connections = f" over {self.connections} connections" if self.connections > 1 else ""
        return f"{self.server}, {self.in_flight} in flight{connections}{images}, {self.kind}"


Values = Mapping[str, float]
"""What a measurement gave: requests_per_s, images_per_s, p50_us, p99_us, p999_us, resident_mib, cpu_s (of 100,000
requests), cpu_us (of one), kib_each, load_s, resident_mb and grown_mb, as far as it gives them."""

Round = Mapping[Measurement, Values]
"""The results of one round."""


@dataclass(frozen=True)
class Figure:
    """A ratio with its bars."""

    group: str
    """Name for --only."""
    title: str
    """The title, without the unit."""
    value: str
    """Key of the compared value."""
    ours: Measurement
    """Numerator."""
    against: Measurement
    """Denominator."""
    floor: float | None
    """The minimum that must be reached; None: informational only."""
    goal: float | None = None
    """The goal, if it is stricter than the floor."""
    more_is_better: bool = True
    """Whether the bars are lower or upper bounds."""
    decimals: int = 2
    """Decimal places of the shown ratio."""
    slack: float = 0.0
    """Added to the other's value: the allowed difference, in its unit."""
    against_value: str = ""
    """Key of the denominator's value, if it is not the numerator's."""
    against_name: str = ""
    """The denominator's name in the report, if neither its server nor its kind distinguishes it."""

    @property
    def servers(self) -> set[str]:
        """Returns the servers that it needs."""
        return {self.ours.server, self.against.server}

    @property
    def is_apart(self) -> bool:
        """Whether it is measured separately, on a fresh server, instead of in the rounds."""
        return self.ours.kind in _APART

    def is_in(self, results: Round) -> bool:
        """Returns whether a round measured both sides; one side may also belong to another figure."""
        return self.ours in results and self.against in results

    def in_turn(self, number: int) -> tuple[Measurement, Measurement]:
        """Returns its two measurements in the order of round `number`.

        The other comes first in even rounds, ours in odd ones, so drift in the machine's speed favours neither.
        """
        return (self.against, self.ours) if number % 2 == 0 else (self.ours, self.against)

    def passes(self, ratio: float, bar: float) -> bool:
        """Returns whether a ratio meets a bar."""
        return ratio >= bar - _EXACT if self.more_is_better else ratio <= bar + _EXACT


@dataclass(frozen=True)
class Row:
    """A measured figure."""

    figure: Figure
    """What was compared."""
    ours: Sequence[float]
    """Our value in each round."""
    against: Sequence[float]
    """The other's value in the same rounds."""

    @property
    def ratios(self) -> list[float]:
        """Ratio of ours to the other's, per round."""
        return [ours / against for ours, against in zip(self.ours, self.against, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def floor_met(self) -> bool:
        """Whether the median reaches the floor, if any."""
        return self.figure.floor is None or self.figure.passes(self.ratio, self.figure.floor)

    @property
    def goal_met(self) -> bool:
        """Whether the median reaches the goal, or without one the floor."""
        goal = self.figure.goal
        return self.floor_met if goal is None else self.figure.passes(self.ratio, goal)


def chosen(figures: Iterable[Figure], groups: Collection[str], *, with_triton: bool) -> list[Figure]:
    """Returns the measurable figures of some groups, with or without Triton."""
    return [
        figure
        for figure in figures
        if figure.group in groups and (with_triton or not figure.servers.intersection({TRITON}))
    ]


def order(figures: Iterable[Figure], number: int) -> list[Measurement]:
    """Returns round `number`'s measurements, each once, with a figure's two measurements adjacent."""
    wanted: dict[Measurement, None] = {}
    for figure in figures:
        if not figure.is_apart:
            wanted.update(dict.fromkeys(figure.in_turn(number)))
    return list(wanted)


def rows(figures: Iterable[Figure], rounds: Sequence[Round]) -> list[Row]:
    """Returns the measured figures with the rounds' results."""
    return [
        Row(
            figure,
            [results[figure.ours][figure.value] for results in rounds if figure.is_in(results)],
            [
                results[figure.against][figure.against_value or figure.value] + figure.slack
                for results in rounds
                if figure.is_in(results)
            ],
        )
        for figure in figures
        if any(map(figure.is_in, rounds))
    ]
