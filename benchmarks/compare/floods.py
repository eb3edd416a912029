"""Measures a flood's effect on other clients: call times before and during it, and the recovery time.

    python -m benchmarks.compare.floods
    python -m benchmarks.compare.floods --transport grpcio "rapid reset, over and over" PING

The attacks are those of tests/integration/frames, which checks memory and answers but not times, because test machines
may be busy. The server has one core. The attacker and one client share another, at the lowest and highest priority, so
the client does not wait for the core.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from attacks import ATTACKS  # type: ignore[import-not-found]  # noqa: E402  from the folder above

from . import cores, ours  # noqa: E402
from .bodies import METHOD, infer_request, mnist_images  # noqa: E402

EFFORT = 20_000
"""Frames of one attack, as in the tests; repeated until the time is over."""
SLOW = 5
"""A call that takes this multiple of an idle server's p99 is affected by the flood."""
RECOVERY_S = 3.0
TIMEOUT_S = 5.0

Call = Callable[[], float]
"""Makes one call and returns its seconds."""


@dataclass(frozen=True)
class Row:
    """A flood's effect on another client's calls."""

    attack: str
    """The attack's name."""
    p99_before_ms: float
    """p99 without the flood."""
    p99_during_ms: float
    """p99 during the flood."""
    ratio: float
    """The second over the first."""
    recovered_s: float
    """Time from the end of the flood to the end of the last affected call."""
    lost: int
    """Calls without an answer within `TIMEOUT_S`."""


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="seconds per flood (default: 3)")
    parser.add_argument("--transport", choices=list(ours.Transport), default=ours.Transport.AUTO, type=ours.Transport)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(ATTACKS)}; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--attack", nargs=2, metavar=("NAME", "ADDRESS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        _attack_for_ever(*args.attack)
    if unknown := [name for name in args.names if name not in ATTACKS]:
        parser.error(f"unknown: {'; '.join(unknown)}; there are {'; '.join(ATTACKS)}")
    # Child processes end when this process unwinds, so SIGTERM must raise an exception too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = cores.choose()
    os.sched_setaffinity(0, {plan.load})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    rows = []
    with ours.serve("PixelServe", plan, args.transport) as server:
        for name in args.names or ATTACKS:
            Console(stderr=True).print(name)
            rows.append(measure(name, server.address, args.seconds))
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(_table(rows))


def _attack_for_ever(name: str, address: str) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    while True:
        # The server closes attacking connections.
        with suppress(OSError):
            ATTACKS[name](address, EFFORT)


def measure(name: str, address: str, seconds: float) -> Row:
    """Measures one attack on a running server."""
    with _client(address) as call:
        before = _calls(call, seconds)
        p99_s = _p99(before)
        with _attack(name, address):
            during = _calls(call, seconds)
        ended_s = time.monotonic()
        recovered_s = 0.0
        while (now_s := time.monotonic() - ended_s) < RECOVERY_S:
            if call() > SLOW * p99_s:
                recovered_s = now_s
    lost = sum(took_s == float("inf") for took_s in during)
    during_s = _p99(during)
    return Row(name, p99_s * 1e3, during_s * 1e3, during_s / p99_s, recovered_s, lost)


@contextmanager
def _client(address: str) -> Iterator[Call]:
    body = infer_request(mnist_images()[:1]).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        infer: Callable[..., bytes] = channel.unary_unary(METHOD)
        infer(body, timeout=TIMEOUT_S)

        def call() -> float:
            start_s = time.perf_counter()
            try:
                infer(body, timeout=TIMEOUT_S)
            except grpc.RpcError:
                return float("inf")
            return time.perf_counter() - start_s

        yield call


@contextmanager
def _attack(name: str, address: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.compare.floods", "--attack", name, address]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            # It needs a moment to start.
            time.sleep(1)
            yield
        finally:
            process.kill()


def _calls(call: Call, seconds: float) -> list[float]:
    end_s = time.monotonic() + seconds
    took_s = [call(), call()]
    while time.monotonic() < end_s:
        # A client without pauses would itself be load.
        time.sleep(0.002)
        took_s.append(call())
    return took_s


def _p99(took_s: list[float]) -> float:
    return statistics.quantiles(took_s, n=100)[98]


def _table(rows: list[Row]) -> Table:
    table = Table("attack", "p99 before, ms", "p99 during, ms", "ratio", "recovered after, s", "lost")
    for row in rows:
        figures = f"{row.p99_before_ms:.2f}", f"{row.p99_during_ms:.2f}", f"{row.ratio:.1f}", f"{row.recovered_s:.2f}"
        table.add_row(row.attack, *figures, str(row.lost))
    return table


if __name__ == "__main__":
    main()
