"""Clients of one kind in their own process: each worker calls at a steady rate until SIGTERM.

python -m deploy.drill.clients plain --target HOST:PORT --out FILE
"""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import calls
from .chart import ROOT

_END_S = 30.0


@dataclass(frozen=True)
class Record:
    """One call."""

    began_s: float
    """Send time on time.monotonic, which all processes of a machine share."""
    ended_s: float
    """Time of the answer or failure."""
    status: str
    """OK, or the failure's status."""
    details: str = ""
    """The failure's details, or the version that answered."""
    worker: int = 0
    """The worker that sent it; each has one connection."""

    @property
    def is_ok(self) -> bool:
        return self.status == "OK"


@dataclass(frozen=True)
class Load:
    """The clients of one kind."""

    kind: str
    """One of `calls.KINDS`."""
    workers: int
    """Number of workers, each with a connection and one call in flight."""
    rate: float
    """Calls per second of each worker."""


class Clients:
    """A running process of clients."""

    def __init__(self, load: Load, target: str, ca: Path | None, folder: Path) -> None:
        self.kind = load.kind
        self._out = folder / f"{load.kind}.json"
        command = [sys.executable, "-m", "deploy.drill.clients", load.kind, "--target", target, "--out", str(self._out)]
        command += ["--workers", str(load.workers), "--rate", str(load.rate), *(["--ca", str(ca)] if ca else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)

    def wait_started(self) -> None:
        """Waits until the first calls are sent."""
        if self._process.stdout is None or not self._process.stdout.readline():
            raise RuntimeError(f"the {self.kind} clients ended with exit code {self._process.wait()}")

    def finish(self) -> list[Record]:
        """Stops the clients after their last calls; returns all calls."""
        self._process.terminate()
        self._process.wait(_END_S)
        return [Record(*fields) for fields in json.loads(self._out.read_text())]

    def close(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


@contextlib.contextmanager
def running(loads: list[Load], targets: dict[str, str], ca: Path | None, folder: Path) -> Iterator[list[Clients]]:
    """Runs clients; `targets` has addresses by kind, `grpc` for the others."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(contextlib.closing(Clients(load, targets.get(load.kind, targets["grpc"]), ca, folder)))
            for load in loads
        ]
        for each in started:
            each.wait_started()
        yield started


def _work(number: int, options: argparse.Namespace, stop: threading.Event, records: list[Record]) -> None:
    kinds = calls.KINDS[options.kind]
    client: calls.DrillClient = kinds[number % len(kinds)](options.target, options.ca)
    choice, pictures, period_s = random.Random(number), calls.samples(), 1 / options.rate  # noqa: S311
    # Random offsets, so workers do not call simultaneously.
    due_s = time.monotonic() + period_s * choice.random()
    while not stop.wait(max(due_s - time.monotonic(), 0.0)):
        picture, label = choice.choice(pictures)
        began_s, status, details = time.monotonic(), "OK", ""
        try:
            found, details = client.call(picture)
            if found != label:
                raise calls.WrongAnswer(f"{found} instead of {label}")
        except Exception as error:  # noqa: BLE001  any error means that the client got no answer
            status, details = calls.status_of(error), calls.details_of(error)
        ended_s = time.monotonic()
        records.append(Record(began_s, ended_s, status, details, number))
        # A slow call delays the next ones; they are not sent in a burst.
        due_s = max(due_s + period_s, ended_s)


def main() -> None:
    """Calls until SIGTERM, then writes the result of each call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", help="plain, default, sdk, stream or http")
    parser.add_argument("--target", required=True, help="HOST:PORT of the balancer")
    parser.add_argument("--ca", type=Path, help="certificate authority; without it plain text")
    parser.add_argument("--workers", type=int, default=4, help="clients, each with a connection (4)")
    parser.add_argument("--rate", type=float, default=10.0, help="calls per second of each (10)")
    parser.add_argument("--out", type=Path, required=True, help="file for the calls, as JSON")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    records: list[Record] = []
    threads = [
        threading.Thread(target=_work, args=(number, options, stop, records)) for number in range(options.workers)
    ]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    for thread in threads:
        thread.join()
    fields = [(each.began_s, each.ended_s, each.status, each.details, each.worker) for each in records]
    options.out.write_text(json.dumps(fields))


if __name__ == "__main__":
    main()
