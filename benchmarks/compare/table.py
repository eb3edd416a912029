"""The table of `make bench`: all figures, in the order in which they are shown, with their bars."""

from .figures import (
    ALONE,
    BARE,
    COMMITTED,
    COUNTED,
    EARLY_REQUESTS,
    EARLY_SWAPS,
    EFFICIENTNET,
    HTTP_LEVELS,
    MANY_MODELS,
    MOBILENET,
    ONE_MODEL,
    OURS,
    OURS_GRPCIO,
    TRITON,
    UNCOUNTED,
    Figure,
    Kind,
    Measurement,
)


def all_figures(
    requests: int = 1_000_000, swaps: int = 1_000, models: int = 100, cost_requests: int = 100_000
) -> list[Figure]:
    """Returns the figures in the order in which they are shown.

    Args:
        requests: after how many memory is looked at again.
        swaps: the same for swaps of a version.
        models: how many are loaded where many are.
        cost_requests: of how many the CPU time is counted, with the metrics and without.
    """
    return [
        *_against_others(),
        *_against_itself(requests),
        *_over_http(),
        *_living(swaps, models),
        *_of_metrics(cost_requests),
        *_of_loading(),
    ]


def _pair(kind: Kind, one: str, other: str, in_flight: int) -> tuple[Measurement, Measurement]:
    return Measurement(kind, one, in_flight), Measurement(kind, other, in_flight)


def _against_others() -> list[Figure]:
    """Returns how it compares with what else could serve."""
    load, alone = Kind.H2LOAD, Measurement(Kind.ALONE, ALONE)
    eights, single = Measurement(load, OURS, 32, 8), Measurement(load, OURS, 128)
    return [
        Figure("rates", "requests/s at 32 in flight", "requests_per_s", *_pair(load, OURS, TRITON, 32), 1.6, 1.9),
        Figure("rates", "requests/s at 128 in flight", "requests_per_s", *_pair(load, OURS, TRITON, 128), 1.6, 1.9),
        Figure("latency", "p50 at 1 in flight", "p50_us", *_pair(load, OURS, TRITON, 1), 0.70, 0.60, False),
        Figure("latency", "p99 at 1 in flight", "p99_us", *_pair(load, OURS, TRITON, 1), 1.0, None, False),
        Figure("tail", "p99 at 32 in flight", "p99_us", *_pair(load, OURS, TRITON, 32), 0.70, 0.55, False),
        Figure("eights", "images/s by 8 a request, 32 in flight", "images_per_s", eights, alone, 0.72, 0.80),
        Figure("alone", "images/s by 1 a request, 128 in flight", "images_per_s", single, alone, 0.52, 0.62),
    ]


def _against_itself(requests: int) -> list[Figure]:
    """Returns what other requests, transports and many of them do to it."""
    distinct = Measurement(Kind.DISTINCT, OURS, 32), Measurement(Kind.FIXED, OURS, 32)
    over_grpcio = _pair(Kind.H2LOAD, OURS_GRPCIO, BARE, 32)
    memory = f"resident memory after {requests:,} distinct requests"
    early, late = (Measurement(Kind.RESIDENT, OURS, 32, requests=count) for count in (EARLY_REQUESTS, requests))
    return [
        Figure("distinct", "distinct ids and pixels, 32 in flight", "requests_per_s", *distinct, 0.90),
        _on_one_call(OURS, "one stream, 32 in flight"),
        _on_one_call(OURS_GRPCIO, "one stream over grpcio, 32 in flight"),
        Figure("grpcio", "grpcio transport, 32 in flight", "requests_per_s", *over_grpcio, 0.9, 1.0),
        Figure("memory", memory, "resident_mib", late, early, 1.02, None, False),
    ]


def _on_one_call(server: str, title: str) -> Figure:
    ours, against = (Measurement(kind, server, 32) for kind in (Kind.ONE_CALL, Kind.FIXED))
    return Figure("stream", title, "requests_per_s", ours, against, None, 1.0)


def _over_http() -> list[Figure]:
    """Returns what the same request takes over HTTP, on kept connections."""

    def figure(title: str, value: str, in_flight: int, floor: float | None = None, slack: float = 0.0) -> Figure:
        ours, against = (Measurement(kind, OURS, in_flight) for kind in (Kind.HTTP, Kind.H2LOAD))
        more_is_better = value == "requests_per_s"
        return Figure("http", title, value, ours, against, floor, None, more_is_better, slack=slack)

    return [
        *(figure(f"requests/s over HTTP, {level} in flight", "requests_per_s", level) for level in HTTP_LEVELS),
        *(figure(f"p50 over HTTP, {level} in flight", "p50_us", level) for level in HTTP_LEVELS),
        figure("p50 over HTTP, 1 in flight, against gRPC's and 1 ms", "p50_us", 1, 1.0, 1000),
    ]


def _living(swaps: int, models: int) -> list[Figure]:
    """Returns what many models, and versions that come and go, do to it."""
    many = f"requests/s with {models} models loaded, 32 in flight"
    swapping = Measurement(Kind.SWAPPED, OURS, 32), Measurement(Kind.STEADY, OURS, 32)
    early, late = (Measurement(Kind.RESIDENT, OURS, swaps=count) for count in (EARLY_SWAPS, swaps))
    return [
        Figure("models", many, "requests_per_s", *_pair(Kind.H2LOAD, MANY_MODELS, ONE_MODEL, 32), None, 0.95),
        Figure("swaps", "p99 of the second of a swap, 32 in flight", "p99_us", *swapping, None, 3.0, False),
        Figure("swapmemory", f"resident memory after {swaps:,} swaps", "resident_mib", late, early, None, 1.05, False),
    ]


def _of_metrics(requests: int) -> list[Figure]:
    """Returns what it costs that requests are counted, and that the counts are read."""
    counted, uncounted = (Measurement(Kind.CPU, name, 32, requests=requests) for name in (COUNTED, UNCOUNTED))
    scrape = Measurement(Kind.SCRAPE, COUNTED)
    title = "CPU time of 100,000 requests, 32 in flight"
    return [
        Figure("metrics", title, "cpu_s", counted, uncounted, None, 1.03, False, decimals=3),
        Figure("metrics", "CPU time of a scrape of the metrics", "cpu_us", scrape, counted, None, decimals=0),
    ]


def _of_loading() -> list[Figure]:
    """Returns what starts and loads take, against limits."""

    def against_limit(title: str, name: str, value: str, floor: float | None, goal: float | None) -> Figure:
        measured, limit = (Measurement(kind, name) for kind in (Kind.LOADED, Kind.LIMIT))
        return Figure("loading", title, value, measured, limit, floor, goal, False)

    # How long something takes depends on the machine, so a limit of time is a goal; one of memory does not.
    return [
        against_limit("the committed models ready after the process was started", COMMITTED, "load_s", None, 1.0),
        *(against_limit(f"{name} loaded", name, "load_s", None, 1.0) for name in (MOBILENET, EFFICIENTNET)),
        *(against_limit(f"memory held for {name}", name, "grown_mb", 1.0, None) for name in (MOBILENET, EFFICIENTNET)),
    ]


GROUPS = (*dict.fromkeys(figure.group for figure in all_figures()), "curve")
"""What --only takes: the figures' groups, and the pictures."""
