"""GPU throughput: the server against ONNX Runtime CUDA alone, with and without CUDA graphs.

In every round, ONNX Runtime computes batches of 1, 2, 4 and so on in this process, and servers get requests of 1, 8 and
64 images, 32 to 1,024 images in flight. Run it with `make bench-gpu`; it needs an NVIDIA GPU and onnxruntime-gpu.
"""

import argparse
import datetime
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from gpu_bare import Machine, NoGpuError, find_machine, graph_runner, made_up_inputs, measure_rate, plain_runner
from gpu_load import generator, measure_server, running_server
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
NO_GPU = 3
"""Exit code if there is no GPU to measure."""
GOAL = 0.8
REQUEST_IMAGES = (1, 8, 64)
IN_FLIGHT = (32, 64, 128, 256, 512, 1024)
TRIAL = "A trial of this program without a GPU, not a measurement: the load shares the server's cores."
# Additional options of one server.
SERVERS = {"server": (), "server, graphs": ("--cuda-graphs",)}
console = Console(stderr=True)


@dataclass
class Findings:
    """Images/s of every round."""

    bare: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """ONNX Runtime alone, by configuration and batch size."""
    served: dict[str, dict[tuple[int, int], list[float]]] = field(default_factory=dict)
    """Servers, by options, images per request and images in flight."""
    beside: dict[str, dict[tuple[int, int], list[float]]] = field(default_factory=dict)
    """ONNX Runtime alone with batches of the request's size, directly before each rate of `served`."""
    notes: set[str] = field(default_factory=set)
    """Notes on deviations from the table."""

    def ratios(self, server: str, images: int) -> list[float]:
        """Returns, per round, a server's rate with most images in flight against batches of `images` alone."""
        levels = [level for size, level in self.served[server] if size == images]
        if not levels:
            return []
        point = images, max(levels)
        pairs = zip(self.served[server][point], self.beside[server][point], strict=True)
        return [ours / alone for ours, alone in pairs]


def measure_round(findings: Findings, args: argparse.Namespace) -> None:
    """Measures everything once."""
    model = args.repository / args.model / "1" / "model.onnx"
    sizes = sorted({*(1 << power for power in range(args.max_batch.bit_length())), args.max_batch})
    graphs, missing = graph_runner(model, args.provider, sizes)
    runners = {"ONNX Runtime": plain_runner(model, args.provider)}
    if missing:
        findings.notes.add(missing)
    else:
        runners["ONNX Runtime, graphs"] = graphs
    for name, run in runners.items():
        for rows in sizes:
            rate = measure_rate(run, made_up_inputs(model, rows), args.seconds)
            findings.bare.setdefault(name, {}).setdefault(rows, []).append(rate)
    for name, options in SERVERS.items():
        if not (options and missing):
            measure_servers(findings, args, name, options, runners["ONNX Runtime"])


def measure_servers(
    findings: Findings, args: argparse.Namespace, name: str, options: tuple[str, ...], alone: Callable[..., object]
) -> None:
    """Measures a server at every load, and ONNX Runtime alone directly before each, because machine speed drifts."""
    model = args.repository / args.model / "1" / "model.onnx"
    required = ("--require-gpu",) if args.provider == "cuda" else ()
    served, beside = findings.served.setdefault(name, {}), findings.beside.setdefault(name, {})
    with running_server(args.repository, "--device", args.provider, *required, *options) as server:
        for images, level in points(args.in_flight, args.max_batch):
            console.print(f"  {name}: {images} images per request, {level} in flight")
            inputs = made_up_inputs(model, images)
            beside.setdefault((images, level), []).append(measure_rate(alone, inputs, args.seconds))
            rate = measure_server(server, args.model, inputs, level // images, args.seconds)
            served.setdefault((images, level), []).append(rate)


def points(in_flight: list[int], max_batch: int) -> list[tuple[int, int]]:
    """Returns images per request and images in flight, for at least one request."""
    return [
        (images, level) for images in REQUEST_IMAGES if images <= max_batch for level in in_flight if level >= images
    ]


def as_markdown(findings: Findings, machine: Machine, date: str, rounds: int) -> str:
    """Returns the findings as a page: medians, and with several rounds the lowest and highest."""
    driver = f", driver {machine.driver}" if machine.driver else ""
    origin = f"ONNX Runtime {machine.runtime}{driver}; load by {generator()}; images/s, median of rounds: {rounds}."
    batches = {name: {(rows,): rates for rows, rates in by.items()} for name, by in findings.bare.items()}
    lines = [f"# {machine.card}, {date}", "", *([] if machine.driver else [TRIAL, ""]), origin, ""]
    lines += [*_table(["batch"], batches), "", *_table(["images per request", "images in flight"], findings.served), ""]
    most = max(REQUEST_IMAGES)
    for server in findings.served:
        if ratios := findings.ratios(server, most):
            lines.append(
                f"- {server} at {most} images per request, most in flight, against ONNX Runtime at that batch: "
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); goal {GOAL}"
            )
    return "\n".join([*lines, *(f"- {note}" for note in sorted(findings.notes))]) + "\n"


def _table(keys: list[str], columns: Mapping[str, Mapping[Any, list[float]]]) -> list[str]:
    lines = [f"| {' | '.join([*keys, *columns])} |", "|---" * (len(keys) + len(columns)) + "|"]
    for row in next(iter(columns.values())):
        rates = [_rate(column[row]) for column in columns.values()]
        lines.append(f"| {' | '.join([*map(str, row), *rates])} |")
    return lines


def _rate(rates: list[float]) -> str:
    spread = f" ({min(rates):,.0f} to {max(rates):,.0f})" if len(rates) > 1 else ""
    return f"{median(rates):,.0f}{spread}"


def save(findings: Findings, machine: Machine, date: str, page: str, folder: Path) -> Path:
    """Writes the page and all measurements; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    card = re.sub(r"[^a-z0-9]+", "-", machine.card.lower()).strip("-")
    path = folder / f"gpu-{date}-{card}.md"
    path.write_text(page)
    served = {
        name: [
            {
                "images": images,
                "in_flight": level,
                "images_per_s": rates,
                "alone_images_per_s": findings.beside[name][at],
            }
            for at, rates in by.items()
            for images, level in [at]
        ]
        for name, by in findings.served.items()
    }
    bare = {
        name: [{"batch": rows, "images_per_s": rates} for rows, rates in by.items()]
        for name, by in findings.bare.items()
    }
    whole = {"date": date, **asdict(machine), "load": generator(), "bare": bare, "served": served}
    path.with_suffix(".json").write_text(json.dumps({**whole, "notes": sorted(findings.notes)}, indent=2) + "\n")
    return path


def main() -> int:
    """Measures, prints and saves the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds per figure and round (default: 2)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=IN_FLIGHT, help="images in flight")
    parser.add_argument("--repository", type=Path, default=ROOT / "models", help="folder of models")
    parser.add_argument("--model", default="mnist-cnn", help="the model (default: mnist-cnn)")
    parser.add_argument("--max-batch", type=int, default=64, help="its max_batch_size (default: 64)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the tables")
    # Tests the whole program on a machine without a GPU.
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        machine = find_machine(args.provider)
    except NoGpuError as error:
        print(error, file=sys.stderr)
        return NO_GPU
    findings, date = Findings(), datetime.datetime.now(datetime.UTC).date().isoformat()
    for number in range(1, args.rounds + 1):
        console.print(f"round {number} of {args.rounds}: {machine.card}")
        measure_round(findings, args)
    page = as_markdown(findings, machine, date, args.rounds)
    print(page, end="")
    console.print(f"saved as {save(findings, machine, date, page, args.out)}, and as .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
