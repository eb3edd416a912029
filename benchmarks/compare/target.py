"""A server with a latency target under a load that doubles and halves, against servers with fixed queue sizes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from pixelserve.bench import workload
from pixelserve.bench.flood import Flood, Outcome
from pixelserve.bench.http2 import Connection
from pixelserve.client import Client

from . import ours
from .errors import LoadError
from .figures import OURS, TARGET_LEVELS, Kind, Measurement, Round, Values
from .setup import Setup

MODEL = "cifar10"
CONNECTIONS = 8
TARGET_MS = 50.0
QUEUES = (4, 8, 16, 32, 64)
"""Fixed queue sizes: each bounds the latency of accepted requests."""
_KEPT = 1.1
_IN_FLIGHT = 32
_WARM_UP_S = 1.0


def rounds(setup: Setup, count: int, say: Callable[[str], None]) -> list[Round]:
    """Measures a server with the target and one for each of QUEUES, `count` times.

    Raises:
        LoadError: a server could not be measured.
    """
    found: list[Round] = []
    for number in range(count):
        where = f"latency target, {number + 1} of {count}"
        say(f"{where}: capacity")
        capacity_per_s = _capacity_per_s(setup)
        fixed = []
        for queue in QUEUES:
            say(f"{where}: a queue of {queue}")
            fixed.append(_levels(setup, ["--max-queue-size", str(queue)], capacity_per_s))
        say(f"{where}: the target")
        found.append(as_round(_levels(setup, ["--target-p99-ms", f"{TARGET_MS:g}"], capacity_per_s), fixed))
    return found


def as_round(kept: Sequence[Values], fixed: Sequence[Sequence[Values]]) -> Round:
    """Returns the values of each level, with those of the fixed setting that accepted most while it kept the target.

    If none kept it, the one with the lowest p99 counts.
    """
    results: dict[Measurement, Values] = {Measurement(Kind.TARGET, OURS): {"p99_us": TARGET_MS * 1e3}}
    for number, values in enumerate(kept):
        in_time = [each[number] for each in fixed if each[number]["p99_us"] <= _KEPT * TARGET_MS * 1e3]
        nearest = min((each[number] for each in fixed), key=lambda each: each["p99_us"])
        best = max(in_time, key=lambda each: each["requests_per_s"], default=nearest)
        results[Measurement(Kind.KEPT, OURS, number)] = values
        results[Measurement(Kind.BEST_FIXED, OURS, number)] = best
    return results


def _capacity_per_s(setup: Setup) -> float:
    with _flood(setup, []) as flood:
        flood.closed(_IN_FLIGHT, _WARM_UP_S)
        return flood.closed(_IN_FLIGHT, setup.seconds).rate_per_s()


def _levels(setup: Setup, options: Sequence[str], capacity_per_s: float) -> list[Values]:
    with _flood(setup, options) as flood:
        flood.closed(2, _WARM_UP_S)
        return [_values(flood.opened(times * capacity_per_s, setup.seconds)) for times in TARGET_LEVELS]


def _values(outcome: Outcome) -> Values:
    return {"requests_per_s": outcome.rate_per_s(), "p99_us": outcome.accepted_s(99) * 1e6}


@contextmanager
def _flood(setup: Setup, options: Sequence[str]) -> Iterator[Flood]:
    """Yields load for a fresh server with one thread for the model."""
    options = ["--intra-op-threads", "1", *options]
    with ours.serve(OURS, setup.cores, setup.transport, options=options) as server, ExitStack() as stack:
        with Client(f"127.0.0.1:{server.port}") as client:
            (version,) = client.models(MODEL)
        load = workload.make(version, workload.INFER, batch=1)
        target = ("127.0.0.1", server.port, load.method, load.bodies)
        try:
            yield Flood([stack.enter_context(closing(Connection(*target))) for _ in range(CONNECTIONS)])
        except OSError as error:
            raise LoadError(f"{OURS} could not be measured: {error}") from error
