"""Runs the clients of a soak against a server process, and checks the results."""

import re
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.server import write_zeros
from fuzzing.wire import wire_server

from .clients import KINDS, Client, scrape
from .ledger import Ledger, disagreements

_COUNT = re.compile(r'pixelserve_requests_total\{code="(\w+)",method="(\w+)".*\} ([\d.e+]+)')
_PAUSE_S = 0.02
OPTIONS = ("--model-control-mode=explicit", "--load-models=*", "--unread-answer-timeout-s=1", "--max-queue-size=4096")
GROWTH_MIB = 64
MORE_THREADS = 8
MORE_DESCRIPTORS = 32
"""What the second half of a soak may have above its first: a leak of a soak's calls would be many times as much."""


@dataclass
class Sample:
    """The process at one moment."""

    memory_mib: float
    threads: int
    descriptors: int


@dataclass
class Report:
    """What came of a soak."""

    ledger: Ledger
    metrics: Counter[tuple[str, str]]
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def half(self, number: int) -> Sample:
        """Returns the medians of a half, 0 or 1, without the first fifth of the soak, in which all is new."""
        samples = self.samples[len(self.samples) // 5 :]
        middle = len(samples) // 2
        chosen = samples[:middle] if number == 0 else samples[middle:]
        return Sample(
            statistics.median(each.memory_mib for each in chosen),
            int(statistics.median(each.threads for each in chosen)),
            int(statistics.median(each.descriptors for each in chosen)),
        )

    def growth(self) -> list[str]:
        """Returns what has grown from one half to the other."""
        first, second = self.half(0), self.half(1)
        allowed = (("memory_mib", GROWTH_MIB), ("threads", MORE_THREADS), ("descriptors", MORE_DESCRIPTORS))
        return [
            f"{name} grew from {getattr(first, name)} to {getattr(second, name)}"
            for name, more in allowed
            if getattr(second, name) > getattr(first, name) + more
        ]


def soak(transport: str, seed: int, *, seconds: float = 0, rounds: int = 0) -> Report:
    """Soaks a server.

    Args:
        transport: what --transport names.
        seed: of the clients' choices.
        seconds: how long; 0: until each client has made its rounds.
        rounds: of each client; 0: until the time is over.
    """
    with wire_server(transport, *OPTIONS, prepare=_write_models) as server:
        ledger = Ledger()
        process = Path(f"/proc/{server.process.pid}")
        before = _sample(process)
        samples: list[Sample] = []
        is_over = threading.Event()
        clients = [kind(server.fields, ledger, f"{seed}-{kind.__name__}") for kind in KINDS]
        if transport == "grpcio":
            # It waits for slow readers as long as they like (docs/reliability.md).
            clients = [client for client in clients if type(client).__name__ != "SlowReader"]
        threads = [threading.Thread(target=_run, args=(client, is_over, rounds)) for client in clients]
        for thread in threads:
            thread.start()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s if seconds else any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            samples.append(_sample(process))
        is_over.set()
        for thread in threads:
            thread.join()
        report = Report(ledger, _metrics(server.fields["metrics"]), samples)
        report.problems = disagreements(ledger, report.metrics)
        report.problems += _left_over(process, before)
    report.problems += server.failures
    return report


def _run(client: Client, is_over: threading.Event, rounds: int) -> None:
    done = 0
    while not is_over.is_set() and not (rounds and done == rounds):
        done += 1
        try:
            client.round()
        except Exception as error:  # noqa: BLE001  a client that fails is what is looked for
            client.ledger.complain(f"{type(client).__name__}: {error!r}")
        # The machine has others to serve.
        is_over.wait(_PAUSE_S)


def _write_models(folder: Path) -> None:
    """Adds a model whose requests wait for an hour, and one with large answers."""
    write_zeros(folder / "zeros")
    (folder / "patient" / "1").mkdir(parents=True)
    (folder / "patient" / "1" / "model.onnx").write_bytes((folder / "doubler" / "1" / "model.onnx").read_bytes())
    (folder / "patient" / "config.pbtxt").write_text(
        "max_batch_size: 100 dynamic_batching { max_queue_delay_microseconds: 3600000000 }"
    )


def _sample(process: Path) -> Sample:
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    descriptors = sum(1 for _ in (process / "fd").iterdir())
    return Sample(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), descriptors)


def _left_over(process: Path, before: Sample) -> list[str]:
    """Returns what clients that have gone have left: connections end a little after them."""
    end_s = time.monotonic() + 60
    while _sample(process).descriptors > before.descriptors + 2 and time.monotonic() < end_s:
        time.sleep(0.1)
    after = _sample(process)
    is_left = after.descriptors > before.descriptors + 2
    return [f"{after.descriptors} descriptors are open, {before.descriptors} before"] if is_left else []


def _metrics(url: str) -> Counter[tuple[str, str]]:
    """Returns how many calls the server has counted by method and code, once that rests."""
    before: Any = None
    while True:
        found: Counter[tuple[str, str]] = Counter()
        for code, method, count in _COUNT.findall(scrape(url)):
            found[method, code] += int(float(count))
        if found == before:
            return found
        before = found
        time.sleep(0.5)
