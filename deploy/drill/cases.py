"""The cases: events and goals."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import repositories
from .calls import DEADLINE_S, MODEL
from .clients import Load, Record
from .cluster import ENDPOINTS_DELAY_S
from .goals import Goal, lost_there_only, no_failures, within_deadline
from .pods import Template
from .stage import Played, Stage

CALLERS = (Load("plain", 6, 8.0), Load("default", 4, 8.0), Load("sdk", 6, 8.0))
# Enough connections to even out a ClusterIP's random choice.
MANY = Load("plain", 96, 1.5)
# For a joining server to get its share within seconds; the chart's value is 600.
_CONNECTION_AGE_S = 3.0
_JOIN_S = 10.0
_SHARE = 0.8
# Time for a broken connection to reach a busy client, for gRPC's reconnection wait, and for Envoy's two failed health
# checks or unanswered ping.
_RESET_S, _RECONNECT_S, _EJECTED_S = 0.5, 1.5, 5.0


@dataclass(frozen=True)
class Case:
    """A case: an event and its goals."""

    title: str
    """The title in the table."""
    event: Callable[[Stage], None]
    """Makes it happen."""
    judge: Callable[[Played], list[Goal]]
    """Compares the result with the goals."""
    loads: Sequence[Load] = CALLERS
    """The clients."""
    balancers: tuple[str, ...] = ("envoy", "forwarder")
    """The balancers to run it behind."""
    age_s: float = 0.0
    """--max-connection-age-s of the servers behind the forwarder; 0: none."""

    def flags_for(self, balancer: str) -> tuple[str, ...]:
        """Returns the flags that servers need behind a balancer."""
        return ("--max-connection-age-s", f"{self.age_s:g}") if self.age_s and balancer == "forwarder" else ()


def restart(stage: Stage) -> None:
    """Replaces every server with an identical one."""
    stage.roll(stage.template)


def update(stage: Stage) -> None:
    """Replaces every server with one that has the next version of the model."""
    stage.roll(_with(stage, repositories.write(stage.folder, MODEL, version=2)))


def bad_version(stage: Stage) -> None:
    """Starts to roll out a version that fails its golden samples; the rollout stalls and is reverted."""
    new = stage.cluster.create(_with(stage, repositories.write_bad(stage.folder, MODEL, version=2)))
    stage.marks["became ready"] = stage.cluster.wait_ready(new, stage.options.seconds / 3)
    stage.marks["starts"] = new.starts
    stage.logs[new.name] = new.log_tail()
    stage.cluster.delete(new)


def kill(stage: Stage) -> None:
    """Kills a server, which the kubelet restarts."""
    _strike(stage, signal.SIGKILL)


def stop(stage: Stage) -> None:
    """Hangs a server; the kubelet's liveness probe detects it and restarts it."""
    _strike(stage, signal.SIGSTOP)


def join(stage: Stage) -> None:
    """Adds a server, and measures its share starting ten seconds after it is ready."""
    new = stage.cluster.create(stage.template)
    stage.expect_ready(new)
    time.sleep(_JOIN_S)
    before = {each.name: each.computed() for each in stage.cluster.pods}
    time.sleep(_JOIN_S)
    after = {each.name: each.computed() - before[each.name] for each in stage.cluster.pods}
    stage.marks["share"] = after[new.name] * len(after) / max(sum(after.values()), 1)


def _strike(stage: Stage, number: signal.Signals) -> None:
    pod = stage.cluster.pods[0]
    stage.mark("struck")
    pod.signal(number)
    if number == signal.SIGKILL:
        pod.wait(DEADLINE_S)
        stage.mark("dead")
    while pod.starts == 1:
        time.sleep(0.02)
    stage.mark("restarted")
    while not pod.is_ready():
        time.sleep(0.1)
    time.sleep(ENDPOINTS_DELAY_S)


def _with(stage: Stage, repository: Path) -> Template:
    return replace(stage.template, repository=repository)


def _judge_restart(played: Played) -> list[Goal]:
    codes = Counter(played.codes)
    ended = Goal("every server ended with exit code 0", set(codes) == {0}, str(dict(codes)))
    return [*no_failures(played), ended]


def _judge_update(played: Played) -> list[Goal]:
    # During its settle time, a server answers its existing connections.
    versions = Counter(each.details for each in _answered(played) if each.began_s > played.ended_s)
    only_new = Goal("after the update only the new version answers", set(versions) <= {"2"}, str(dict(versions)))
    return [*_judge_restart(played), only_new]


def _judge_bad(played: Played) -> list[Goal]:
    versions = Counter(each.details for each in _answered(played))
    log = " ".join(played.logs.values())
    return [
        *no_failures(played),
        Goal("the bad version never answers", set(versions) == {"1"}, str(dict(versions))),
        Goal("its server is never ready", not played.marks["became ready"], f"{played.marks['starts']:.0f} starts"),
        Goal("its log names the golden samples", "golden" in log, log[-160:]),
    ]


def _judge_kill(played: Played) -> list[Goal]:
    struck_s = played.marks["struck"]
    if played.balancer == "envoy":
        return lost_there_only(played, struck_s, played.marks["dead"] + _RESET_S, "its connections broke")
    # A ClusterIP still picks a dead pod until its endpoints update, and gRPC reconnects after a second.
    noticed_s = played.marks["restarted"] + ENDPOINTS_DELAY_S + _RECONNECT_S
    return lost_there_only(played, struck_s, noticed_s, "the ClusterIP followed")


def _judge_stop(played: Played) -> list[Goal]:
    struck_s = played.marks["struck"]
    if played.balancer == "envoy":
        noticed_s, noticed = struck_s + _EJECTED_S, "Envoy ejected it"
    else:
        # A connection through a ClusterIP stays with its server until the server ends.
        noticed_s, noticed = played.marks["restarted"] + ENDPOINTS_DELAY_S + _RECONNECT_S, "the kubelet killed it"
    return [*lost_there_only(played, struck_s, noticed_s, noticed), within_deadline(played, DEADLINE_S)]


def _judge_join(played: Played) -> list[Goal]:
    share = played.marks["share"]
    gets = Goal(f"10 s after it joined it has {_SHARE} of an equal share", share >= _SHARE, f"{share:.2f}")
    # Without retries, a connection age of seconds occasionally loses calls; see docs/reliability.md.
    return [*no_failures(played, ("default", "sdk")), gets]


def _answered(played: Played) -> list[Record]:
    return [each for records in played.records.values() for each in records if each.is_ok]


CASES: dict[str, Case] = {
    "restart": Case("rolling restart of all", restart, _judge_restart),
    "update": Case("rolling update to a new version", update, _judge_update),
    "bad-version": Case("a version that fails its golden samples", bad_version, _judge_bad),
    "kill": Case("SIGKILL of one", kill, _judge_kill),
    "stop": Case("SIGSTOP of one", stop, _judge_stop),
    "join": Case("a fourth server joins", join, _judge_join, loads=(MANY, *CALLERS[1:]), age_s=_CONNECTION_AGE_S),
    "restart-streams": Case("rolling restart under streams", restart, _judge_restart, (Load("stream", 6, 8.0),)),
    # The chart's Envoy is for gRPC.
    "restart-http": Case(
        "rolling restart under HTTP", restart, _judge_restart, (Load("http", 6, 8.0),), balancers=("forwarder",)
    ),
}
