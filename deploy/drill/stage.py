"""Sets up a case (three servers behind a balancer) and runs clients while its event happens."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import chart, clients
from .balancers import BALANCERS, Balancer
from .clients import Load, Record
from .cluster import ENDPOINTS_DELAY_S, Cluster
from .pods import Pod, Template
from .topology import topology

SERVERS = 3
READY_S = 120.0
"""Maximum time for a server to become ready on a busy machine."""
# A server that exits this often will not become ready.
_STARTS = 2
_TAIL_S = 3.0
# The part of a case before its event.
_STEADY = 0.25
# Time for a probing balancer to find the first servers healthy.
_SETTLED_S = 3.0


@dataclass(frozen=True)
class Options:
    """Options of all cases."""

    balancer: str = "envoy"
    """One of `BALANCERS`."""
    seconds: float = 60.0
    """Duration of the load; longer if the case takes longer."""
    settle_s: float = field(default_factory=lambda: chart.times_s()[0])
    """--drain-settle-s of the servers; the chart's."""
    grace_s: float = field(default_factory=lambda: chart.times_s()[1])
    """--grace-s of the servers; the chart's."""
    network: str = "auto"
    """The source of the servers' addresses; see `topology`."""
    transport: str = "auto"
    """--transport of the servers."""
    tls: bool = False
    """Whether the servers use TLS; not behind Envoy."""


@dataclass
class Played:
    """The result of a case."""

    records: dict[str, list[Record]]
    """By kind of client."""
    began_s: float
    """Start of the event, after the steady time."""
    ended_s: float
    """End of the event."""
    network: str
    """The kind of the servers' addresses."""
    balancer: str
    """The balancer."""
    marks: dict[str, float] = field(default_factory=dict)
    """Times and figures recorded by the event."""
    codes: list[int] = field(default_factory=list)
    """Exit codes of deleted servers."""
    logs: dict[str, str] = field(default_factory=dict)
    """Last log lines of each pod that never became ready."""

    def of(self, kind: str) -> list[Record]:
        """Returns one kind's calls."""
        return self.records.get(kind, [])

    def failures(self, kind: str) -> list[Record]:
        """Returns one kind's failed calls."""
        return [each for each in self.of(kind) if not each.is_ok]

    def p99_s(self, start_s: float, end_s: float) -> float:
        """Returns p99 of answered calls that started in an interval, or NaN."""
        took = sorted(
            each.ended_s - each.began_s
            for records in self.records.values()
            for each in records
            if each.is_ok and start_s <= each.began_s < end_s
        )
        return took[math.ceil(len(took) * 0.99) - 1] if took else math.nan

    @property
    def steady_p99_s(self) -> float:
        """p99 before the event."""
        return self.p99_s(0, self.began_s)

    @property
    def event_p99_s(self) -> float:
        """p99 during the event."""
        return self.p99_s(self.began_s, self.ended_s)


@dataclass
class Stage:
    """The servers, balancer and files of a case."""

    cluster: Cluster
    """The servers."""
    balancer: Balancer
    """The balancer."""
    template: Template
    """The template of the first servers."""
    folder: Path
    """The folder for files of the case."""
    options: Options
    """The options of the case."""
    marks: dict[str, float] = field(default_factory=dict)
    """See `Played.marks`."""
    logs: dict[str, str] = field(default_factory=dict)
    """See `Played.logs`."""

    def mark(self, name: str) -> None:
        """Records the current time."""
        self.marks[name] = time.monotonic()

    def roll(self, template: Template) -> None:
        """Replaces every pod as with maxSurge 1 and maxUnavailable 0: deletes an old pod when a new one is ready."""
        for old in list(self.cluster.pods):
            new = self.cluster.create(template)
            self.expect_ready(new)
            self.cluster.delete(old)
        self.mark("rolled")
        self.cluster.wait_deleted()

    def expect_ready(self, pod: Pod) -> None:
        """Waits until a pod is ready.

        Raises:
            RuntimeError: it is not ready in time.
        """
        end_s = time.monotonic() + READY_S
        while not self.cluster.wait_ready(pod, timeout_s=1):
            if time.monotonic() > end_s or pod.starts > _STARTS:
                raise RuntimeError(f"{pod.name} does not become ready; its log ends with:\n{pod.log_tail()}")


Event = Callable[[Stage], None]
"""The event of a case."""


@contextmanager
def set_up(
    options: Options, repository: Path, folder: Path, flags: Sequence[str] = (), ca: Path | None = None
) -> Iterator[tuple[Stage, str]]:
    """Starts a balancer and three servers, and yields them with the kind of their addresses."""
    with ExitStack() as stack:
        network = stack.enter_context(topology(options.network))
        balancer = BALANCERS[options.balancer](network.balancer, folder)
        stack.callback(balancer.close)
        balancer.start()
        termination_s = options.settle_s + options.grace_s + 2
        cluster = Cluster(network, folder, balancer.publish, termination_s=termination_s)
        stack.callback(cluster.close)
        times = ["--drain-settle-s", f"{options.settle_s:g}", "--grace-s", f"{options.grace_s:g}"]
        template = Template(repository, (*times, "--transport", options.transport, *flags), ca)
        stage = Stage(cluster, balancer, template, folder, options)
        for pod in [cluster.create(template) for _ in range(SERVERS)]:
            stage.expect_ready(pod)
        time.sleep(ENDPOINTS_DELAY_S + _SETTLED_S)
        yield stage, network.kind


@contextmanager
def scratch() -> Iterator[Path]:
    """Yields a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-drill-") as folder:
        yield Path(folder)


def play(stage: Stage, kind: str, loads: Sequence[Load], event: Event) -> Played:
    """Runs clients, and after a steady time the event; returns the result of every call."""
    start_s = time.monotonic()
    targets = {"grpc": stage.balancer.grpc, "http": stage.balancer.http}
    with clients.running(list(loads), targets, stage.template.ca, stage.folder) as started:
        time.sleep(stage.options.seconds * _STEADY)
        began_s = time.monotonic()
        event(stage)
        ended_s = time.monotonic()
        time.sleep(max(_TAIL_S, start_s + stage.options.seconds - ended_s))
        records = {each.kind: each.finish() for each in started}
    return Played(
        records, began_s, ended_s, kind, stage.balancer.name, stage.marks, list(stage.cluster.codes), stage.logs
    )
