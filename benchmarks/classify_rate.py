"""Compares the rate of `pixelserve classify FOLDER` with that of `pixelserve bench` on the same server.

Both alternate in sending requests of 32 pictures, 8 in flight, with MNIST's 10,000 test images as PNG files.
Only ratios of one run count. Run it with `make bench-classify`.
"""

import argparse
import gzip
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BATCH, IN_FLIGHT = "32", "8"
console = Console(stderr=True)


def write_pictures(folder: Path) -> int:
    """Writes MNIST's test split as PNG files; returns their number."""
    raw = gzip.decompress((ROOT / "tests" / "data" / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    for number, image in enumerate(track(images, "writing pictures", console=console)):
        Image.fromarray(image).save(folder / f"{number:05}.png")
    return len(images)


@contextmanager
def running_server(transport: str) -> Iterator[str]:
    """Runs a server with the committed models; yields its gRPC address."""
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(ROOT / "models")]
    command += ["--no-http", "--grpc-port", "0", "--metrics-port", "0", "--transport", transport]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = (json.loads(line) for line in process.stderr or ())
            yield next(event for event in lines if event["event"] == "serving")["grpc"]
        finally:
            process.send_signal(signal.SIGTERM)
            log.write(process.communicate()[1])


def pixelserve(*args: str) -> subprocess.CompletedProcess[str]:
    """Runs a client command and returns its result."""
    return subprocess.run([sys.executable, "-m", "pixelserve", *args], check=True, capture_output=True, text=True)


def bench_rate(address: str, folder: Path) -> float:
    """Returns images/s measured by `pixelserve bench`."""
    options = ["--batch", BATCH, "--concurrency", IN_FLIGHT, "--duration-s", "4", "--json"]
    report = json.loads(
        pixelserve("bench", "--address", address, "--model", "mnist-cnn", "--images", str(folder), *options).stdout
    )
    return float(report["images_per_s"])


def classify_rate(address: str, folder: Path, csv: Path) -> float:
    """Returns pictures/s reported by `pixelserve classify`."""
    options = ["--batch-size", BATCH, "--in-flight", IN_FLIGHT, "--csv", str(csv)]
    said = pixelserve("classify", str(folder), "--address", address, "--model", "mnist-cnn", *options).stderr
    match = re.search(r"([\d,]+) pictures/s", said)
    if match is None:
        sys.exit(f"classify did not report its rate: {said}")
    return float(match[1].replace(",", ""))


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each (default: 5)")
    parser.add_argument("--transport", choices=["auto", "h2corn", "grpcio"], default="auto")
    args = parser.parse_args()
    table = Table("round", "bench, images/s", "classify, pictures/s", "ratio", title=f"transport {args.transport}")
    ratios = []
    with tempfile.TemporaryDirectory() as place, running_server(args.transport) as address:
        folder = Path(place) / "pictures"
        folder.mkdir()
        write_pictures(folder)
        for number in range(1, args.rounds + 1):
            console.print(f"round {number} of {args.rounds}")
            bench = bench_rate(address, folder)
            classify = classify_rate(address, folder, Path(place) / f"{number}.csv")
            ratios.append(classify / bench)
            table.add_row(str(number), f"{bench:,.0f}", f"{classify:,.0f}", f"{ratios[-1]:.2f}")
    print_table = Console().print
    print_table(table)
    print_table(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); floor 0.70")


if __name__ == "__main__":
    main()
