"""Restarts, updates, kills and overloads servers behind balancers while clients call them.

Three servers, each with its own address, run behind the chart's Envoy and behind a plain TCP forwarder, which picks a
server per connection like a ClusterIP. grpcio clients without retries and PixelServe's clients call them continuously.
Each case prints a line with its failed calls and its goals. Exit code 1: a goal is missed. The ratio of p99 to that
before the event should be 3 or less; it is not a goal, because it depends on the machine.

    make drill
    make drill ARGS="--case restart --balancer forwarder --settle-s 0"   the losses of a server without a settle time
"""

import argparse
import json
import math
import signal
import sys

from rich.console import Console

from . import repositories
from .balancers import BALANCERS
from .calls import MODEL
from .cases import CASES
from .certificates import issue
from .chart import ToolError, times_s
from .overload import overload
from .report import HEAD, Row, lines, overload_row, row
from .stage import Options, play, scratch, set_up

OVERLOAD = "overload"
_LEAST_SECONDS = 5.0
console = Console(stderr=True)


def run(case: str, options: Options) -> Row:
    """Runs one case behind one balancer.

    Raises:
        ToolError: a program is missing.
        RuntimeError: a server or the clients do not start.
    """
    if case == OVERLOAD:
        return overload_row(options.balancer, overload(options))
    chosen = CASES[case]
    with scratch() as folder:
        flags, ca = issue(folder) if options.tls else ((), None)
        repository = repositories.write(folder, MODEL)
        with set_up(options, repository, folder, (*flags, *chosen.flags_for(options.balancer)), ca) as (stage, network):
            played = play(stage, network, chosen.loads, chosen.event)
        return row(chosen.title, options.balancer, played, chosen.judge(played))


def _parser() -> argparse.ArgumentParser:
    settle_s, grace_s = times_s()
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m deploy.drill", description=__doc__, formatter_class=form)
    names = (*CASES, OVERLOAD)
    parser.add_argument("--case", action="append", choices=names, help="one case; may be repeated (default: all)")
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="duration of each case's load (60)")
    parser.add_argument(
        "--balancer", choices=(*BALANCERS, "both"), default="both", help="in front of the servers (both)"
    )
    parser.add_argument(
        "--settle-s", type=_time, default=settle_s, help=f"of the servers (default: the chart's {settle_s:g})"
    )
    parser.add_argument(
        "--grace-s", type=_time, default=grace_s, help=f"of the servers (default: the chart's {grace_s:g})"
    )
    parser.add_argument("--network", choices=("auto", "loopback"), default="auto", help="auto: namespaces if possible")
    parser.add_argument("--transport", default="auto", help="the servers' --transport (auto)")
    parser.add_argument("--tls", action="store_true", help="servers with TLS, behind the forwarder only")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _seconds(text: str) -> float:
    return _at_least(_LEAST_SECONDS, text)


def _time(text: str) -> float:
    return _at_least(0.0, text)


def _at_least(least: float, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not least <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from {least:g}")
    return seconds


def plan(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns cases and balancers, in order; with TLS, only those that support it."""
    balancers = list(BALANCERS) if options.balancer == "both" else [options.balancer]
    behind = {name: case.balancers for name, case in CASES.items()} | {OVERLOAD: tuple(BALANCERS)}
    return [
        (case, balancer)
        for case in options.case or behind
        for balancer in balancers
        if balancer in behind[case] and (not options.tls or (case, balancer) not in _without_tls())
    ]


def _without_tls() -> set[tuple[str, str]]:
    # The chart's Envoy connects to the servers without TLS, and so do the clients of these cases.
    return {(case, "envoy") for case in CASES} | {
        (case, each) for case in (OVERLOAD, "restart-http") for each in BALANCERS
    }


def main() -> int:
    """Runs the cases and prints their results."""
    parser = _parser()
    options = parser.parse_args()
    planned = plan(options)
    if not planned:
        parser.error("nothing to run: with --tls, only --balancer forwarder, and neither overload nor restart-http")
    # Like Ctrl-C: namespaces and processes are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows = [_shown(*each, options) for each in planned]
    if options.json:
        print(json.dumps([each.as_json() for each in rows], indent=2))
    return 0 if all(each.is_met for each in rows) else 1


def _shown(case: str, balancer: str, options: argparse.Namespace) -> Row:
    """Runs a case and prints its row, except with --json."""
    console.print(f"{case} behind {balancer}", highlight=False)
    names = ("seconds", "settle_s", "grace_s", "network", "transport", "tls")
    try:
        found = run(case, Options(balancer, **{name: getattr(options, name) for name in names}))
    except (ToolError, RuntimeError) as error:
        sys.exit(f"{case} behind {balancer}: {error}")
    if not options.json:
        print(f"{HEAD}\n{lines(found)}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
