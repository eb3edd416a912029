"""The cost of the metrics: the server's CPU time with and without them, and that of a scrape."""

import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from . import ours
from .bodies import METHOD, MODEL
from .errors import ServerError
from .figures import COUNTED, Figure, Kind, Measurement, Round, Values
from .measure import SETTLE_S, Measurer, Say
from .process import Server
from .repositories import repository
from .setup import Setup

PARTS = 10
"""Parts of a round's requests, sent alternately with and without metrics."""
SCRAPE_EVERY_S = 5.0
SCRAPES = 100
SCRAPE_TIMEOUT_S = 20.0
# Like Prometheus: OpenMetrics, compressed.
PROMETHEUS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}


def rounds(setup: Setup, figure: Figure, count: int, say: Say) -> list[Round]:
    """Measures the CPU time of requests with and without metrics, and of a scrape, `count` times.

    Every round starts two new servers: memory layout can make a process faster or slower by about the measured effect
    for its whole life, which would bias all rounds of one pair alike.

    Raises:
        LoadError: requests failed.
        ServerError: a server did not start, gave a wrong answer, or counted requests
            incorrectly.
    """
    found: list[Round] = []
    for number in range(count):
        say(f"CPU time with metrics and without, {number + 1} of {count}")
        with _servers(setup, figure, number) as running:
            costs = _of_requests(Measurer(setup, running), running, figure, number)
            found.append({**costs, Measurement(Kind.SCRAPE, COUNTED): _of_scrapes(running[COUNTED])})
    return found


@contextmanager
def _servers(setup: Setup, figure: Figure, number: int) -> Iterator[Mapping[str, Server]]:
    """Runs both until the block ends, starting them in alternating order."""
    with repository() as place, ExitStack() as stack:
        names = [wanted.server for wanted in figure.in_turn(number)]
        yield {name: stack.enter_context(_serve(name, setup, place)) for name in names}


def _serve(name: str, setup: Setup, place: Path) -> AbstractContextManager[Server]:
    # If each server measured its batch limit at load, one might choose 16 rows and the other 32, a far larger effect.
    options = ["--no-limit-batches"]
    if name == COUNTED:
        return ours.serve(name, setup.cores, setup.transport, repository=place, options=options)
    options += ["--drift-window", "0"]
    return ours.serve(
        name, setup.cores, setup.transport, repository=place, options=options, module="benchmarks.compare.uncounted"
    )


def _of_requests(
    measurer: Measurer, running: Mapping[str, Server], figure: Figure, number: int
) -> dict[Measurement, Values]:
    part = figure.ours.requests // PARTS
    for wanted in figure.in_turn(number):
        measurer.check(wanted)
        measurer.send(wanted, part)
    time.sleep(SETTLE_S)
    # An idle server takes almost no CPU time, so measuring before and after all parts suffices.
    before = {name: (_counts(server), server.cpu_s()) for name, server in running.items()}
    _send_in_turn(measurer, running[COUNTED], figure, number)
    time.sleep(SETTLE_S)
    costs: dict[Measurement, Values] = {}
    for wanted in figure.in_turn(number):
        server, (counts, cpu_s) = running[wanted.server], before[wanted.server]
        each_s = (server.cpu_s() - cpu_s) / (part * PARTS)
        check_counts(wanted.server, part * PARTS, counts, _counts(server))
        costs[wanted] = {"cpu_s": each_s * 100_000, "cpu_us": each_s * 1e6}
    return costs


def _send_in_turn(measurer: Measurer, counted: Server, figure: Figure, number: int) -> None:
    """Sends all parts, and scrapes the metrics as often as Prometheus would while the server is loaded."""
    loaded_s, scrapes = 0.0, 0
    for part in range(PARTS):
        for wanted in figure.in_turn(number + part):
            start_s = time.perf_counter()
            measurer.send(wanted, figure.ours.requests // PARTS)
            if wanted.server == COUNTED:
                loaded_s += time.perf_counter() - start_s
        while scrapes < round(loaded_s / SCRAPE_EVERY_S):
            _page(counted, PROMETHEUS)
            scrapes += 1


def _of_scrapes(server: Server) -> Values:
    cpu_s = server.cpu_s()
    for _ in range(SCRAPES):
        _page(server, PROMETHEUS)
    return {"cpu_us": (server.cpu_s() - cpu_s) / SCRAPES * 1e6}


def _page(server: Server, headers: Mapping[str, str]) -> bytes:
    request = urllib.request.Request(ours.metrics_url(server), headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=SCRAPE_TIMEOUT_S) as answer:
            page: bytes = answer.read()
            return page
    except OSError as error:
        raise ServerError(f"{server.name} does not serve its metrics page: {error}") from error


def _counts(server: Server) -> tuple[float, float]:
    return read_counts(_page(server, {}).decode())


def read_counts(page: str) -> tuple[float, float]:
    """Returns the OK calls on a metrics page, and the requests in the model's figures."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    answered, counted = (
        sum(each.value for each in samples if each.name == name and each.labels.items() >= labels.items())
        for name, labels in (
            ("pixelserve_requests_total", {"method": METHOD.rpartition("/")[2], "code": "OK"}),
            ("nv_inference_request_success", {"model": MODEL}),
        )
    )
    return answered, counted


def check_counts(name: str, requests: int, before: tuple[float, float], after: tuple[float, float]) -> None:
    """Raises ServerError if a server did not answer all requests with OK, which h2load cannot see, or if it counted
    requests although it should not, or the reverse."""
    answered, counted = (late - early for early, late in zip(before, after, strict=True))
    if answered != requests:
        raise ServerError(f"{name} answered {answered:,.0f} of {requests:,} requests with OK")
    expected = requests if name == COUNTED else 0
    if counted != expected:
        raise ServerError(f"{name} has {counted:,.0f} of {requests:,} requests in its figures, not {expected:,}")
