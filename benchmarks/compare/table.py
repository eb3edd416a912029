"""The table of `make bench`: all figures in order, with their bars."""

from . import tuned
from .figures import (
    ALONE,
    BARE,
    COMMITTED,
    CONNECTIONS,
    COUNTED,
    DIGITS,
    EARLY_REQUESTS,
    EARLY_SWAPS,
    EFFICIENTNET,
    HTTP_LEVELS,
    JPEGS,
    MANY_MODELS,
    MOBILENET,
    ONE_COMMITTED,
    ONE_MODEL,
    OURS,
    OURS_GRPCIO,
    OURS_TLS,
    OURS_TWO_CORES,
    PHOTOS,
    TARGET_LEVELS,
    TRITON,
    UNCOUNTED,
    Figure,
    Kind,
    Measurement,
)


def all_figures(
    requests: int = 1_000_000, swaps: int = 1_000, models: int = 100, cost_requests: int = 100_000
) -> list[Figure]:
    """Returns the figures in display order.

    Args:
        requests: number after which memory is measured again.
        swaps: the same for version swaps.
        models: number for the figures with many models.
        cost_requests: number whose CPU time is measured with and without metrics; a quarter for other figures.
    """
    return [
        *_against_triton(),
        *_against_alone(),
        *_steadiness(),
        *_against_itself(requests),
        *_over_http(),
        *_living(swaps, models),
        *_encrypted(),
        *_held(),
        *_of_cores(cost_requests // 4),
        *_of_metrics(cost_requests),
        *_of_loading(),
        *_of_pictures(),
        *_of_overload(),
        *tuned.figures(),
        *_of_a_target(),
    ]


def _pair(kind: Kind, one: str, other: str, in_flight: int, connections: int = 1) -> tuple[Measurement, Measurement]:
    ours, against = (Measurement(kind, server, in_flight, connections=connections) for server in (one, other))
    return ours, against


def _against_triton() -> list[Figure]:
    """Returns rates and latencies against Triton with its Python backend."""

    def rate(in_flight: int, connections: int, floor: float | None = None, goal: float | None = None) -> Figure:
        title = f"requests/s at {in_flight} in flight{_over(connections)}"
        pair = _pair(Kind.H2LOAD, OURS, TRITON, in_flight, connections)
        return Figure("rates", title, "requests_per_s", *pair, floor, goal)

    alone = _pair(Kind.H2LOAD, OURS, TRITON, 1)
    return [
        *(rate(level, 1) for level in (1, 32, 128)),
        rate(32, CONNECTIONS, 1.65, 1.9),
        rate(128, CONNECTIONS, 1.75, 2.0),
        Figure("latency", "p50 at 1 in flight", "p50_us", *alone, 0.9, 0.7, False),
        Figure("latency", "p99 at 1 in flight", "p99_us", *alone, 1.0, None, False),
        Figure("latency", "p99.9 at 1 in flight", "p999_us", *alone, None, None, False),
        Figure("tail", "p99 at 32 in flight", "p99_us", *_pair(Kind.H2LOAD, OURS, TRITON, 32), 0.7, 0.55, False),
    ]


def _over(connections: int) -> str:
    return f" over {connections} connections" if connections > 1 else ""


def _against_alone() -> list[Figure]:
    """Returns the share of ONNX Runtime's rate that remains behind a network."""
    alone, figures = Measurement(Kind.ALONE, ALONE), []
    for group, images, in_flight, floor, goal in (("eights", 8, 32, 0.74, 0.83), ("alone", 1, 128, 0.45, 0.52)):
        for connections in (1, CONNECTIONS):
            title = f"images/s by {images} per request, {in_flight} in flight{_over(connections)}"
            ours = Measurement(Kind.H2LOAD, OURS, in_flight, images, connections)
            bars = (floor, goal) if connections > 1 else (None, None)
            figures.append(Figure(group, title, "images_per_s", ours, alone, *bars))
    return figures


def _steadiness() -> list[Figure]:
    """Returns the effect of chance, neighbours and many clients on latencies."""

    def spread(server: str, title: str, *bars: float) -> Figure:
        alone = Measurement(Kind.H2LOAD, server)
        floor, goal = bars or (None, None)
        return Figure(
            "spread", title, "p999_us", alone, alone, floor, goal, False, against_value="p50_us", against_name="p50"
        )

    def beside(server: str, title: str, *bars: float) -> Figure:
        both = Measurement(Kind.BESIDE, server), Measurement(Kind.H2LOAD, server)
        floor, goal = bars or (None, None)
        return Figure("neighbour", title, "p50_us", *both, floor, goal, False, against_name="p50 alone")

    many, few = (Measurement(Kind.H2LOAD, OURS, *shape) for shape in ((256, 1, 256), (32, 1, CONNECTIONS)))
    title = "requests/s over 256 connections, 1 in flight on each"
    against = f"{CONNECTIONS} connections, {32 // CONNECTIONS} on each"
    return [
        spread(OURS, "p99.9 over p50 at 1 in flight", 5, 3),
        spread(TRITON, "p99.9 over p50 at 1 in flight, Triton"),
        beside(OURS, "p50 at 1 in flight beside a busy process", 3, 1.5),
        beside(TRITON, "p50 at 1 in flight beside a busy process, Triton"),
        Figure("connections", title, "requests_per_s", many, few, 0.72, 0.85, against_name=against),
    ]


def _against_itself(requests: int) -> list[Figure]:
    """Returns the effect of request variety, transports and request count."""
    distinct = Measurement(Kind.DISTINCT, OURS, 32), Measurement(Kind.FIXED, OURS, 32)
    over_grpcio = _pair(Kind.H2LOAD, OURS_GRPCIO, BARE, 32)
    memory = f"resident memory after {requests:,} distinct requests"
    early, late = (Measurement(Kind.RESIDENT, OURS, 32, requests=count) for count in (EARLY_REQUESTS, requests))
    return [
        Figure("distinct", "distinct ids and pixels, 32 in flight", "requests_per_s", *distinct, 0.90),
        _on_one_call(OURS, "one stream, 32 in flight", 0.8),
        _on_one_call(OURS_GRPCIO, "one stream over grpcio, 32 in flight", None),
        Figure("grpcio", "grpcio transport, 32 in flight", "requests_per_s", *over_grpcio, 0.9, 1.0),
        Figure("memory", memory, "resident_mib", late, early, 1.02, None, False),
    ]


def _on_one_call(server: str, title: str, floor: float | None) -> Figure:
    ours, against = (Measurement(kind, server, 32) for kind in (Kind.ONE_CALL, Kind.FIXED))
    return Figure("stream", title, "requests_per_s", ours, against, floor, 1.0)


def _over_http() -> list[Figure]:
    """Returns the cost of the same request over HTTP with keep-alive."""

    bars = {1: (0.5, 0.7), 32: (0.25, 0.4)}

    def rate(in_flight: int) -> Figure:
        title = f"requests/s over HTTP, {in_flight} in flight"
        floor, goal = bars.get(in_flight, (None, None))
        return Figure("http", title, "requests_per_s", *_http_pair(in_flight), floor, goal, against_name="gRPC")

    def p50(title: str, in_flight: int, floor: float | None = None, slack: float = 0.0) -> Figure:
        pair = _http_pair(in_flight)
        return Figure("http", title, "p50_us", *pair, floor, None, False, slack=slack, against_name="gRPC")

    return [
        *(rate(level) for level in HTTP_LEVELS),
        *(p50(f"p50 over HTTP, {level} in flight", level) for level in HTTP_LEVELS),
        p50("p50 over HTTP, 1 in flight, against gRPC's and 1 ms", 1, 1.0, 1000),
    ]


def _http_pair(in_flight: int) -> tuple[Measurement, Measurement]:
    return Measurement(Kind.HTTP, OURS, in_flight), Measurement(Kind.H2LOAD, OURS, in_flight)


def _living(swaps: int, models: int) -> list[Figure]:
    """Returns the effect of many models and version swaps."""
    many = f"requests/s with {models} models loaded, 32 in flight"
    swapping = Measurement(Kind.SWAPPED, OURS, 32), Measurement(Kind.STEADY, OURS, 32)
    early, late = (Measurement(Kind.RESIDENT, OURS, swaps=count) for count in (EARLY_SWAPS, swaps))
    return [
        Figure("models", many, "requests_per_s", *_pair(Kind.H2LOAD, MANY_MODELS, ONE_MODEL, 32), None, 0.95),
        Figure("swaps", "p99 of the second of a swap, 32 in flight", "p99_us", *swapping, None, 3.0, False),
        Figure("swapmemory", f"resident memory after {swaps:,} swaps", "resident_mib", late, early, None, 1.05, False),
    ]


def _encrypted() -> list[Figure]:
    """Returns the cost of TLS on kept connections."""

    def rate(in_flight: int, floor: float) -> Figure:
        title = f"requests/s with TLS at {in_flight} in flight{_over(CONNECTIONS)}"
        pair = _pair(Kind.H2LOAD, OURS_TLS, OURS, in_flight, CONNECTIONS)
        return Figure("tls", title, "requests_per_s", *pair, floor, 0.97)

    alone = _pair(Kind.H2LOAD, OURS_TLS, OURS, 1)
    p50 = Figure("tls", "p50 with TLS at 1 in flight", "p50_us", *alone, 1.1, 1.05, False)
    return [rate(32, 0.93), rate(128, 0.90), p50]


def _held() -> list[Figure]:
    """Returns the server's memory per waiting client."""

    def figure(title: str, kind: Kind, server: str, against: str) -> Figure:
        return Figure("held", title, "kib_each", *_pair(kind, server, against, 1), None, None, False)

    return [
        figure("memory of an idle connection, against grpcio's", Kind.IDLE, OURS, OURS_GRPCIO),
        figure("memory of an idle connection with TLS", Kind.IDLE, OURS_TLS, OURS),
        figure("memory of a call in flight, against grpcio's", Kind.HELD, OURS, OURS_GRPCIO),
    ]


def _of_cores(requests: int) -> list[Figure]:
    """Returns the CPU time per request, and the gain of a second core."""

    def spent(server: str) -> Measurement:
        return Measurement(Kind.SPENT, server, 32, connections=CONNECTIONS, requests=requests)

    def cpu(group: str, title: str, server: str, against: str) -> Figure:
        return Figure(group, title, "cpu_us", spent(server), spent(against), None, None, False)

    rates = _pair(Kind.H2LOAD, OURS_TWO_CORES, OURS, 32, CONNECTIONS)
    return [
        cpu("cpu", "CPU time per request, 32 in flight, against grpcio's", OURS, OURS_GRPCIO),
        cpu("cpu", "CPU time per request, 32 in flight, against Triton's", OURS, TRITON),
        cpu("cpu", "CPU time per request with TLS, 32 in flight", OURS_TLS, OURS),
        Figure("cores", "requests/s on two cores, 32 in flight", "requests_per_s", *rates, None),
        cpu("cores", "CPU time per request on two cores, 32 in flight", OURS_TWO_CORES, OURS),
    ]


def _of_metrics(requests: int) -> list[Figure]:
    """Returns the cost of counting requests and of reading the counts."""
    counted, uncounted = (Measurement(Kind.CPU, name, 32, requests=requests) for name in (COUNTED, UNCOUNTED))
    scrape = Measurement(Kind.SCRAPE, COUNTED)
    title = "CPU time of 100,000 requests, 32 in flight"
    return [
        Figure("metrics", title, "cpu_s", counted, uncounted, None, 1.03, False, decimals=3),
        Figure("metrics", "CPU time of a scrape of the metrics", "cpu_us", scrape, counted, None, decimals=0),
    ]


def _of_loading() -> list[Figure]:
    """Returns start and load times against limits."""

    def against_limit(title: str, name: str, value: str, floor: float | None, goal: float | None) -> Figure:
        measured, limit = (Measurement(kind, name) for kind in (Kind.LOADED, Kind.LIMIT))
        return Figure("loading", title, value, measured, limit, floor, goal, False)

    # Times depend on the machine, so time limits are goals; memory limits are floors.
    return [
        *(
            against_limit(f"{what} ready after the process was started", name, "load_s", None, 1.0)
            for what, name in (("one model", ONE_COMMITTED), ("the four committed models", COMMITTED))
        ),
        *(
            against_limit(f"memory with {what}", name, "resident_mb", 1.0, None)
            for what, name in (("one model", ONE_COMMITTED), ("the four committed models", COMMITTED))
        ),
        *(against_limit(f"{name} loaded", name, "load_s", None, 1.0) for name in (MOBILENET, EFFICIENTNET)),
        *(against_limit(f"memory held for {name}", name, "grown_mb", 1.0, None) for name in (MOBILENET, EFFICIENTNET)),
    ]


def _of_pictures() -> list[Figure]:
    """Returns the share of a loop's rate that remains for pictures classified over gRPC."""

    def pair(name: str) -> tuple[Measurement, Measurement]:
        return Measurement(Kind.CLASSIFIED, name), Measurement(Kind.PREPARED, name)

    names = (DIGITS, JPEGS, PHOTOS)
    return [
        *(Figure("pictures", f"{name}/s by Classify", "images_per_s", *pair(name), 0.8) for name in names),
        *(Figure("pictures", f"CPU time of {name}", "cpu_us", *pair(name), None, 1.25, False) for name in names),
    ]


def _of_overload() -> list[Figure]:
    """Returns goodput under overload, and its effect on other clients."""

    def of(server: str, floors: dict[int, tuple[float | None, float | None]]) -> list[Figure]:
        suffix = "" if server == OURS else ", on grpcio"
        # In runs of the model. The bars are for the default transport.
        most_p50, most_p99 = (2.0, 4.0) if server == OURS else (None, None)

        def figure(
            title: str, value: str, ours: Measurement, against: Kind, bars: tuple[float | None, float | None]
        ) -> Figure:
            return Figure("overload", title + suffix, value, ours, Measurement(against, server), *bars, False)

        loads = {times: Measurement(Kind.OVERLOADED, server, times) for times in (0, *floors)}
        capacity = Measurement(Kind.CAPACITY, server)
        good = [
            Figure(
                "overload",
                f"answered in time at {times} x capacity{suffix}",
                "requests_per_s",
                loads[times],
                capacity,
                *bars,
            )
            for times, bars in floors.items()
        ]
        refused = [
            figure(f"p99 of a refusal at {times} x capacity", "refused_us", load, Kind.REFUSAL_LIMIT, (None, 1.0))
            for times, load in loads.items()
            if times > 1
        ]
        light = "overload", f"p99 of what is accepted at 2 x capacity{suffix}", "p99_us", loads[2], loads[0], None, 2.0
        polite = Measurement(Kind.POLITE, server)
        return [
            *good,
            *refused,
            Figure(*light, False, against_name="at 0.7 x"),
            figure("p50 of a polite client beside 512 in flight", "p50_us", polite, Kind.RUN, (most_p50, None)),
            figure("p99 of a polite client beside 512 in flight", "p99_us", polite, Kind.RUN, (most_p99, None)),
        ]

    return [
        *of(OURS, {1: (0.97, None), 2: (0.90, 0.95), 5: (0.75, 0.85), 10: (0.55, 0.75)}),
        *of(OURS_GRPCIO, {1: (None, None), 2: (0.85, None), 5: (None, None), 10: (None, None)}),
    ]


def _of_a_target() -> list[Figure]:
    """Returns how a latency target is kept on a load that doubles and halves."""

    def figures(number: int, times: float) -> list[Figure]:
        kept, fixed = (Measurement(kind, OURS, number) for kind in (Kind.KEPT, Kind.BEST_FIXED))
        where = f"at {times:g} x capacity, level {number + 1} of {len(TARGET_LEVELS)}"
        target = Measurement(Kind.TARGET, OURS)
        return [
            Figure("target", f"p99 of accepted {where}", "p99_us", kept, target, 1.1, 1.0, False),
            Figure("target", f"accepted {where}", "requests_per_s", kept, fixed, 0.9, 1.0),
        ]

    return [figure for number, times in enumerate(TARGET_LEVELS) for figure in figures(number, times)]


GROUPS = (*dict.fromkeys(figure.group for figure in all_figures()), "curve")
"""The values of --only: the figures' groups, and the charts."""
