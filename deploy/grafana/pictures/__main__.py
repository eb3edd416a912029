"""Starts a server and a Prometheus, sends a load that varies, and draws what the dashboard shows of it."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from . import draw, load, panels
from .prometheus import PrometheusError, scraping

PICTURES = panels.ROOT / "docs" / "pictures"
MODELS = "mnist-cnn,fashion-mnist"
console = Console(stderr=True)


@contextmanager
def running_server() -> Iterator[dict[str, str]]:
    """Runs a server on two committed models; gives the fields of its start-up line."""
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(panels.ROOT / "models")]
    command += ["--model-control-mode", "explicit", "--load-models", MODELS, "--drift-window", "300", "--no-http"]
    command += ["--grpc-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [json.loads(line) for line in _until_serving(process)]
            yield lines[-1]
        finally:
            process.terminate()
            process.communicate()


def _until_serving(process: subprocess.Popen[str]) -> Iterator[str]:
    for line in process.stderr or ():
        yield line
        if '"event": "serving"' in line:
            return
    sys.exit(f"the server did not start, exit code {process.wait()}; try: pixelserve serve --model-repository models")


def collect(phase_s: float) -> list[tuple[list[panels.Panel], dict[str, list[panels.Series]]]]:
    """Returns the dashboard's rows, and what each panel shows by its title, after a load of four phases.

    Raises:
        PanelError: a panel has nothing to show.
        PrometheusError: there is no Prometheus.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pixelserve-dashboard-") as folder,
        running_server() as server,
        scraping(server["metrics"], Path(folder)) as prometheus,
    ):
        start_s = time.time()
        for phases in load.story():
            console.print(f"sending for {phase_s:.0f} s: " + "; ".join(map(_describe, phases)))
            with load.sending(server["grpc"], phases):
                time.sleep(phase_s)
        span = panels.Span(start_s, time.time(), step_s=1.0)
        rows = [_drawable(row) for row in panels.read_rows(panels.DASHBOARD.read_text())]
        return [(row, {each.title: panels.answers(each, prometheus, span) for each in row}) for row in rows]


def _describe(phase: load.Phase) -> str:
    wrong = f", after every {phase.wrong_every} one wrong and one late" if phase.wrong_every else ""
    return f"{phase.callers} callers, requests of {phase.rows} to {phase.model}{wrong}"


def _drawable(row: list[panels.Panel]) -> list[panels.Panel]:
    for panel in row:
        if panel.needs_gpu:
            console.print(f"left out, since it needs a GPU: {panel.title}")
    return [panel for panel in row if not panel.needs_gpu]


def main() -> None:
    """Writes a picture for each row."""
    parser = argparse.ArgumentParser(prog="make dashboard-pictures", description=__doc__)
    parser.add_argument("--phase-s", type=float, default=60, help="seconds of each of the four loads (default: 60)")
    parser.add_argument("--folder", type=Path, default=PICTURES, help="where the pictures go (default: docs/pictures)")
    args = parser.parse_args()
    try:
        pictures = [draw.picture(row, shown) for row, shown in collect(args.phase_s) if row]
    except (panels.PanelError, PrometheusError) as error:
        sys.exit(str(error))
    for number, png in enumerate(pictures, start=1):
        path = args.folder / f"dashboard-{number}.png"
        path.write_bytes(png)
        console.print(f"{path}: {len(png):,} bytes")


if __name__ == "__main__":
    main()
