"""Sends three servers three times their capacity: measures goodput, and recovery afterwards."""

import math
from contextlib import ExitStack
from dataclasses import dataclass

import grpc

from pixelserve.bench import workload
from pixelserve.bench.flood import Flood, Outcome
from pixelserve.bench.http2 import RESET, Connection
from pixelserve.client import Client

from . import repositories
from .goals import Goal
from .stage import Options, scratch, set_up

MODEL = "cifar10"
TIMES = 3
_DEADLINE_S = 1.0
# Images per call: enough to overload the servers, not the clients and balancers on the same cores.
_IMAGES = 8
# A ClusterIP distributes connections randomly; with fewer, one server may get none.
_CONNECTIONS, _IN_FLIGHT = 48, 24
_LEAST_GOODPUT, _LEAST_ANSWERED = 0.7, 0.95
_OK = 0
# A server's statuses for calls that it has no time for.
_REFUSALS = {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.DEADLINE_EXCEEDED.value[0]}


@dataclass
class Overloaded:
    """The results of the calls."""

    capacity_per_s: float
    """Calls per second in a closed loop."""
    over: Outcome
    """Results at three times this rate."""
    after: Outcome
    """Results at a third of the capacity, immediately afterwards."""
    network: str
    """The kind of the servers' addresses."""

    @property
    def refused(self) -> int:
        """Number of calls refused for lack of time."""
        # Envoy resets a call whose deadline passes while its answer arrives.
        cut_off = sum(latency_s >= _DEADLINE_S for latency_s in self.over.latencies_s.get(RESET, ()))
        return cut_off + sum(count for status, count in self.over.codes.items() if status in _REFUSALS)

    @property
    def failed(self) -> int:
        """Number of calls neither answered nor refused."""
        return self.over.codes.total() - self.over.codes[_OK] - self.refused + self.over.unanswered

    def goals(self) -> list[Goal]:
        """Returns the goals."""
        goodput = self.over.rate_per_s(_DEADLINE_S) / self.capacity_per_s if self.capacity_per_s else math.nan
        answered = self.after.codes[_OK] / max(self.after.codes.total() + self.after.unanswered, 1)
        return [
            Goal("calls are answered or refused, and none fails", self.failed == 0, _shown(self.over)),
            Goal(f"goodput is {_LEAST_GOODPUT} of the capacity", goodput >= _LEAST_GOODPUT, f"{goodput:.2f}"),
            Goal(
                f"{_LEAST_ANSWERED} of a third of the capacity is answered afterwards",
                answered >= _LEAST_ANSWERED,
                _shown(self.after),
            ),
        ]


def overload(options: Options) -> Overloaded:
    """Measures the capacity, sends three times the load, then a third of it; a third of the time each."""
    with scratch() as folder:
        repository = repositories.write(folder, MODEL)
        with set_up(options, repository, folder, ("--intra-op-threads", "1")) as (stage, network), ExitStack() as stack:
            flood = _connect(stage.balancer.grpc, stack)
            part_s = options.seconds / 3
            flood.closed(_IN_FLIGHT, part_s / 4)
            capacity_per_s = flood.closed(_IN_FLIGHT, part_s).rate_per_s()
            over = flood.opened(max(TIMES * capacity_per_s, 1), part_s)
            return Overloaded(capacity_per_s, over, flood.opened(max(capacity_per_s / 3, 1), part_s), network)


def _connect(address: str, stack: ExitStack) -> Flood:
    with Client(address) as client:
        (version,) = client.models(MODEL)
    load = workload.make(version, workload.INFER, batch=_IMAGES)
    host, _, port = address.rpartition(":")
    timeout = ("grpc-timeout", f"{_DEADLINE_S * 1e3:.0f}m")
    connections = [Connection(host, int(port), load.method, load.bodies, (timeout,)) for _ in range(_CONNECTIONS)]
    for each in connections:
        stack.callback(each.close)
    return Flood(connections)


def _shown(outcome: Outcome) -> str:
    names = {code.value[0]: code.name for code in grpc.StatusCode} | {RESET: "RESET"}
    counts = [f"{count:,} {names.get(status, status)}" for status, count in outcome.codes.items()]
    return ", ".join([*counts, *([f"{outcome.unanswered:,} unanswered"] if outcome.unanswered else [])])
