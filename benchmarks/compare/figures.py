"""Measurements, the ratios made of them, and the bars that these have to pass; `table` lists the ratios."""

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
DIGITS, JPEGS, PHOTOS = "PNG digits", "JPEGs of 224 × 224", "photos of 12 megapixels"
LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Requests in flight in the pictures."""
CONNECTIONS = 4
"""How many connections the figures use that use several."""
HTTP_LEVELS = (1, 8, 32)
"""Requests in flight over HTTP."""
SWEEPS = 3
"""How often each of them is measured: a burst of somebody else's work must not bend the line."""
EARLY_REQUESTS = 10_000
"""When memory is looked at first."""
EARLY_SWAPS = 50
"""When memory is looked at first, where versions are swapped."""
ROUNDS_AN_OVERLOAD = 3
"""Of how many rounds one overloads the servers, each of which takes half a minute."""
SWAPS_A_ROUND = 3
"""How often a version is swapped under load, for each round."""
COSTS_A_ROUND = 2
"""How often the CPU time of requests is measured, for each round."""
# The ends may not move through rounding.
_EXACT = 1e-9


class Kind(StrEnum):
    """How something is measured."""

    H2LOAD = "h2load"
    """By h2load, one body."""
    BESIDE = "h2load, beside a busy process"
    """The same while another process keeps the server's core busy."""
    HTTP = "h2load over HTTP/1.1"
    """By h2load, the same request over HTTP, on a connection for each that is in flight."""
    FIXED = "fixed body"
    """By our own generator, one body."""
    DISTINCT = "distinct bodies"
    """By our own generator, an id and pixels of its own in every request."""
    ALONE = "alone"
    """In-process, without a server."""
    ONE_CALL = "one ModelStreamInfer call"
    """By our own generator, one body, all requests on one call."""
    RESIDENT = "resident memory"
    """The server's memory after so many requests or swaps, in a server of its own."""
    SWAPPED = "around swaps"
    """By our own generator: the second in which a version takes another's place, in a server of its own."""
    STEADY = "right before swaps"
    """The second before."""
    SPENT = "CPU time per request beside other servers"
    """The server's CPU time for so many requests by h2load."""
    CPU = "CPU time per request"
    """The same in a server of its own."""
    SCRAPE = "CPU time of a scrape"
    """The same for requests of its metrics page."""
    IDLE = "idle connections"
    """The server's memory for a connection that has answered one call, in a server of its own."""
    HELD = "calls held in flight"
    """The server's memory for a call that waits in its queue, in a server of its own."""
    LOADED = "loaded"
    """A server's start, or a model that is loaded into one: seconds, and the memory that it holds afterwards."""
    CAPACITY = "capacity"
    """The rate of the closed loop with 32 in flight, in a server of its own with one thread for the model."""
    OVERLOADED = "overloaded"
    """The same server, sent so many times its capacity (0: 0.7 times)."""
    POLITE = "polite client beside 512 in flight"
    """One request at a time beside a connection with 512, in the same server."""
    CLASSIFIED = "Classify"
    """Pictures by Classify over gRPC, in a server of its own."""
    PREPARED = "bare loop"
    """The same files decoded and prepared by a loop on the same core."""
    RUN = "a run of the model"
    """What a run took meanwhile."""
    REFUSAL_LIMIT = "limit of a refusal"
    """What a refusal may take."""
    LIMIT = "limit"
    """What these may be."""


_APART = (
    *(Kind.RESIDENT, Kind.SWAPPED, Kind.STEADY, Kind.CPU, Kind.SCRAPE),
    *(Kind.IDLE, Kind.HELD, Kind.LOADED, Kind.LIMIT, Kind.OVERLOADED, Kind.POLITE),
    Kind.CLASSIFIED,
)


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured."""

    kind: Kind
    """How."""
    server: str
    """What answers."""
    in_flight: int = 1
    """Requests that wait for an answer at any time."""
    images: int = 1
    """Images a request."""
    connections: int = 1
    """HTTP/2 connections that share the requests in flight evenly."""
    requests: int = 0
    """Requests before the server's memory is looked at, or whose CPU time is counted."""
    swaps: int = 0
    """Swaps of a version before the server's memory is looked at."""

    def __str__(self) -> str:
        """Returns it in words."""
        if self.kind == Kind.ALONE:
            return self.server
        if self.kind == Kind.RESIDENT:
            return f"after {self.swaps or self.requests:,}"
        images = f", {self.images} images each" if self.images > 1 else ""
        connections = f" over {self.connections} connections" if self.connections > 1 else ""
        return f"{self.server}, {self.in_flight} in flight{connections}{images}, {self.kind}"


Values = Mapping[str, float]
"""What a measurement gave: requests_per_s, images_per_s, p50_us, p99_us, p999_us, resident_mib, cpu_s (of 100,000
requests), cpu_us (of one), kib_each, load_s and grown_mb, as far as it gives them."""

Round = Mapping[Measurement, Values]
"""What one round gave."""


@dataclass(frozen=True)
class Figure:
    """A ratio with its bars."""

    group: str
    """Name for --only."""
    title: str
    """What it says, without the unit."""
    value: str
    """Key of the compared value."""
    ours: Measurement
    """Numerator."""
    against: Measurement
    """Denominator."""
    floor: float | None
    """What must be reached; None: it is measured, and nothing depends on it."""
    goal: float | None = None
    """What is wanted, where more is wanted than the floor."""
    more_is_better: bool = True
    """Whether the bars are lower or upper ones."""
    decimals: int = 2
    """Of the ratio, as it is shown."""
    slack: float = 0.0
    """What is added to the other's value: by how much ours may be more, in its unit."""
    against_value: str = ""
    """Key of the denominator's value, if it is not the numerator's."""
    against_name: str = ""
    """What the report calls the denominator, if neither its server nor its kind tells them apart."""

    @property
    def servers(self) -> set[str]:
        """What has to run for it."""
        return {self.ours.server, self.against.server}

    @property
    def is_apart(self) -> bool:
        """Whether it is measured by itself, on a fresh server, instead of in the rounds."""
        return self.ours.kind in _APART

    def is_in(self, results: Round) -> bool:
        """Returns whether a round measured both sides; one side may be part of another figure too."""
        return self.ours in results and self.against in results

    def in_turn(self, number: int) -> tuple[Measurement, Measurement]:
        """Returns its two measurements in the order of round `number`.

        The other comes first in even rounds, ours in odd ones, so that a drift of the machine's speed favours neither.
        """
        return (self.against, self.ours) if number % 2 == 0 else (self.ours, self.against)

    def passes(self, ratio: float, bar: float) -> bool:
        """Says whether a ratio is on the right side of a bar, or on it."""
        return ratio >= bar - _EXACT if self.more_is_better else ratio <= bar + _EXACT


@dataclass(frozen=True)
class Row:
    """A figure as it was measured."""

    figure: Figure
    """What was compared."""
    ours: Sequence[float]
    """Our value in each round."""
    against: Sequence[float]
    """The other's in the same rounds."""

    @property
    def ratios(self) -> list[float]:
        """Ours by the other's, in each round."""
        return [ours / against for ours, against in zip(self.ours, self.against, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def floor_met(self) -> bool:
        """Whether the median reaches the floor, where there is one."""
        return self.figure.floor is None or self.figure.passes(self.ratio, self.figure.floor)

    @property
    def goal_met(self) -> bool:
        """Whether the median reaches the goal, or the floor where there is no goal."""
        goal = self.figure.goal
        return self.floor_met if goal is None else self.figure.passes(self.ratio, goal)


def chosen(figures: Iterable[Figure], groups: Collection[str], *, with_triton: bool) -> list[Figure]:
    """Returns the figures of some groups that can be measured with or without Triton."""
    return [
        figure
        for figure in figures
        if figure.group in groups and (with_triton or not figure.servers.intersection({TRITON}))
    ]


def order(figures: Iterable[Figure], number: int) -> list[Measurement]:
    """Returns what round `number` measures, each once: a figure's two measurements are neighbours."""
    wanted: dict[Measurement, None] = {}
    for figure in figures:
        if not figure.is_apart:
            wanted.update(dict.fromkeys(figure.in_turn(number)))
    return list(wanted)


def rows(figures: Iterable[Figure], rounds: Sequence[Round]) -> list[Row]:
    """Returns the figures with what the rounds gave for them."""
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
    ]
