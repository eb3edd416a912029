"""A server with one thread for the model, overloaded: `pixelserve bench --overload`, as figures."""

from collections.abc import Callable
from functools import partial

from pixelserve.bench import workload
from pixelserve.bench.channels import open_channels
from pixelserve.bench.errors import BenchError
from pixelserve.bench.overload import Level, OverloadReport, Place, measure_overload
from pixelserve.bench.runs import Runs
from pixelserve.client import Client, Retry
from pixelserve.client.channel import Configuration

from . import ours
from .errors import LoadError
from .figures import OURS_GRPCIO, Kind, Measurement, Round, Values
from .ours import Transport
from .setup import Setup

MODEL = "cifar10"
CONNECTIONS = 8
DEADLINE_S = 0.2
REFUSED_LIMIT_US = 5_000.0
LIGHT = 0
"""Represents 0.7 times the capacity in integer fields."""


def rounds(setup: Setup, server: str, count: int, say: Callable[[str], None]) -> list[Round]:
    """Overloads a fresh server `count` times.

    Raises:
        LoadError: it could not be measured.
    """
    transport = Transport.GRPCIO if server == OURS_GRPCIO else setup.transport
    found: list[Round] = []
    for number in range(count):
        with ours.serve(server, setup.cores, transport, options=["--intra-op-threads", "1"]) as running:
            try:
                measured = _measure(
                    running.port, setup.seconds, partial(_say, say, f"overload, {number + 1} of {count}")
                )
            except BenchError as error:
                raise LoadError(f"{server} could not be overloaded: {error}") from error
        found.append(as_round(server, measured))
    return found


def _measure(port: int, seconds: float, say: Callable[[str], None]) -> OverloadReport:
    address = f"127.0.0.1:{port}"
    configuration = Configuration.of(
        address, timeout_s=20, retry=Retry(attempts=1), tls=None, token=None, batch_size=1, max_in_flight=1
    )
    with Client(address) as client:
        (version,) = client.models(MODEL)
    load = workload.make(version, workload.INFER, batch=1)
    with open_channels(configuration) as (channel,):
        return measure_overload(
            MODEL,
            load,
            Place("127.0.0.1", port),
            connections=CONNECTIONS,
            deadline_s=DEADLINE_S,
            seconds=seconds,
            run=Runs(channel, version, configuration.timeout_s).since_last,
            say=say,
        )


def _say(say: Callable[[str], None], what: str, step: str) -> None:
    say(f"{what}: {step}")


def as_round(server: str, report: OverloadReport) -> dict[Measurement, Values]:
    """Returns a report's values by measurement."""

    def values(level: Level) -> Values:
        return {
            "requests_per_s": report.goodput(level) * report.capacity_per_s,
            "p99_us": level.outcome.accepted_s(99) * 1e6,
            "refused_us": level.outcome.refused_s(99) * 1e6,
        }

    polite = {f"p{percent}_us": report.beside_percentile_s(percent) * 1e6 for percent in (50, 99)}
    return {
        Measurement(Kind.CAPACITY, server): {"requests_per_s": report.capacity_per_s},
        Measurement(Kind.OVERLOADED, server, LIGHT): values(report.light),
        **{Measurement(Kind.OVERLOADED, server, int(level.times)): values(level) for level in report.levels},
        Measurement(Kind.REFUSAL_LIMIT, server): {"refused_us": REFUSED_LIMIT_US},
        Measurement(Kind.POLITE, server): polite,
        Measurement(Kind.RUN, server): dict.fromkeys(polite, report.run_s * 1e6),
    }
