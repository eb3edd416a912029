"""Restarts, updates, kills and overloads servers behind balancers while clients call them.

Three servers, each at an address of its own, run behind the chart's Envoy and behind a plain TCP forwarder, which picks
a server for each connection as a ClusterIP does. grpcio clients without retries and PixelServe's own call them all the
time. For each case a line says how many calls failed, and what had to hold. Exit code 1: a goal is missed. The ratio of
p99 to that before the event should be 3 or less; it is printed only, since it is the machine's too.

    make drill
    make drill ARGS="--case restart --balancer forwarder --settle-s 0"   what a server without a settle loses
"""

import argparse
import json
import sys

from rich.console import Console

from . import repositories
from .balancers import BALANCERS
from .calls import MODEL
from .cases import CASES
from .certificates import issue
from .chart import ToolError, times_s
from .overload import overload
from .report import Row, overload_row, row, table
from .stage import Options, play, scratch, set_up

OVERLOAD = "overload"
_LEAST_SECONDS = 5.0
console = Console(stderr=True)


def run(case: str, options: Options) -> Row:
    """Plays one case behind one balancer.

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
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long clients call in each case (60)")
    parser.add_argument(
        "--balancer", choices=(*BALANCERS, "both"), default="both", help="in front of the servers (both)"
    )
    parser.add_argument("--settle-s", type=float, default=settle_s, help=f"of the servers (the chart's: {settle_s:g})")
    parser.add_argument("--grace-s", type=float, default=grace_s, help=f"of the servers (the chart's: {grace_s:g})")
    parser.add_argument("--network", choices=("auto", "loopback"), default="auto", help="auto: namespaces if possible")
    parser.add_argument("--transport", default="auto", help="what the servers take as --transport (auto)")
    parser.add_argument("--tls", action="store_true", help="servers with certificates, behind the forwarder only")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not _LEAST_SECONDS <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not at least {_LEAST_SECONDS:g}")
    return seconds


def _plan(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns cases and balancers, in their order."""
    balancers = [options.balancer] if options.balancer != "both" else ["forwarder"] if options.tls else list(BALANCERS)
    return [
        (case, balancer)
        for case in options.case or (*CASES, OVERLOAD)
        for balancer in balancers
        if case == OVERLOAD or balancer in CASES[case].balancers
    ]


def main() -> int:
    """Plays the cases and prints what came of them."""
    parser = _parser()
    options = parser.parse_args()
    if options.tls and options.balancer == "envoy":
        parser.error("--tls: the chart's Envoy speaks plain text to the servers; use --balancer forwarder")
    rows: list[Row] = []
    for case, balancer in _plan(options):
        console.print(f"{case} behind {balancer}", highlight=False)
        given = {
            name: getattr(options, name) for name in ("seconds", "settle_s", "grace_s", "network", "transport", "tls")
        }
        try:
            rows.append(run(case, Options(balancer, **given)))
        except (ToolError, RuntimeError) as error:
            sys.exit(f"{case} behind {balancer}: {error}")
    print(json.dumps([each.as_json() for each in rows], indent=2) if options.json else table(rows))
    return 0 if all(each.is_met for each in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
