"""The command behind `make bench`."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import (
    cores,
    cost,
    figures,
    held,
    loading,
    machine,
    ours,
    overload,
    peer,
    pictures,
    plot,
    report,
    table,
    target,
    tuned,
)
from . import swaps as swapping
from .bodies import ROOT
from .errors import CompareError
from .figures import Figure, Kind, Round
from .load import h2load_version
from .measure import Measurer, servers
from .ours import Transport
from .setup import Setup

WARM_UP_S = 1.0
EXIT_MISSED, EXIT_ERROR = 1, 2
errors = Console(stderr=True)
app = typer.Typer(add_completion=False)


class Peer(StrEnum):
    """The peer to compare with, besides those that need no installation."""

    TRITON = "triton"
    NONE = "none"


def _groups(text: str) -> set[str]:
    names = {name.strip() for name in text.split(",")} if text else set(table.GROUPS)
    if unknown := names.difference(table.GROUPS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(table.GROUPS)}")
    return names


@app.command()
def main(
    peer: Annotated[Peer, typer.Option(help="triton is installed on the first run (440 MB); none omits it")] = (
        Peer.TRITON
    ),
    transport: Annotated[Transport, typer.Option(help="PixelServe's transport, as for `pixelserve serve`")] = (
        Transport.AUTO
    ),
    rounds: Annotated[int, typer.Option(min=1, help="number of measurements of each rate and latency, in turn")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="seconds per measurement, after 1 s of load")] = 3,
    requests: Annotated[int, typer.Option(min=20_000, help="requests before memory is measured again")] = 1_000_000,
    swaps: Annotated[int, typer.Option(min=60, help="swaps of a version before memory is measured again")] = 1_000,
    models: Annotated[int, typer.Option(min=2, help="number of models for the figures with many models")] = 100,
    cost_requests: Annotated[
        int, typer.Option(min=1_000, help="requests whose CPU time is measured, with and without metrics")
    ] = 100_000,
    only: Annotated[str, typer.Option(help=f"some of {','.join(table.GROUPS)}")] = "",
    out: Annotated[Path | None, typer.Option(help="folder for the results (default: benchmarks/results/DATE)")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of the table")] = False,
) -> None:
    """Compares PixelServe with Triton, ONNX Runtime alone, a bare grpcio server and itself, all in one run.

    One core serves, another sends. Saves compare.md, compare.json, throughput.png and p99.png. The exit code is 1 if a
    floor is missed, and 2 if something could not be measured. Keep the machine idle otherwise.
    """
    # Child processes end when this process unwinds, so SIGTERM must raise an exception too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    groups = _groups(only)
    try:
        extent = Extent(rounds, seconds, requests, swaps, models, cost_requests)
        outcome = compare(groups, peer == Peer.TRITON, extent, transport)
        folder = out or ROOT / "benchmarks" / "results" / datetime.now().strftime("%Y-%m-%d-%H%M")
        save(outcome, folder)
    except CompareError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_ERROR) from None
    if json:
        sys.stdout.write(report.as_json(outcome))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(report.as_table(outcome))
    errors.print(f"saved in {folder}", soft_wrap=True)
    for group, reason in outcome.failed.items():
        errors.print(f"error: {group}: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    if outcome.failed:
        raise typer.Exit(EXIT_ERROR)
    if outcome.missed:
        errors.print(f"below the floor: {'; '.join(outcome.missed)}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_MISSED)


@dataclass(frozen=True)
class Extent:
    """The extent of the measurements."""

    rounds: int
    """Measurements of each rate and latency."""
    seconds: float
    """Seconds per measurement."""
    requests: int
    """Requests before memory is measured again."""
    swaps: int
    """Swaps before memory is measured again."""
    models: int
    """Number of models for the figures with many models."""
    cost_requests: int
    """Requests whose CPU time is measured, with and without metrics."""


def compare(groups: set[str], with_triton: bool, extent: Extent, transport: Transport) -> report.Report:
    """Measures everything and returns the outcome.

    Raises:
        CompareError: something could not be measured.
    """
    setup = Setup(cores.choose(), extent.seconds, WARM_UP_S, transport)
    h2load_version()
    triton = _install() if with_triton else None
    possible = table.all_figures(extent.requests, extent.swaps, extent.models, extent.cost_requests)
    chosen = figures.chosen(possible, groups, with_triton=with_triton)
    if not chosen and "curve" not in groups:
        raise CompareError(f"nothing to measure: {', '.join(sorted(groups))} needs Triton")
    timed = [figure for figure in chosen if not figure.is_apart]
    # Children without a core of their own also run on the load's core.
    os.sched_setaffinity(0, {setup.cores.load})
    # Drawn only between steps: a drawing thread would take CPU time from the generator.
    with Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        console=errors,
        auto_refresh=False,
    ) as progress:
        steps = _Steps(progress, _count(timed, extent.rounds, "curve" in groups, with_triton))
        curve = {}
        names = {name for figure in timed for name in figure.servers}
        if "curve" in groups:
            names |= {figures.OURS, figures.TRITON}
        with servers(names, setup, triton, extent.models) as running:
            measurer = Measurer(setup, running)
            used = ours.transport_name(running[figures.OURS]) if figures.OURS in running else transport
            together, ended = _measure_together(measurer, timed, extent.rounds, steps.next)
            if "curve" in groups and not ended:
                brief = replace(setup, seconds=extent.seconds / figures.SWEEPS, warm_up_s=WARM_UP_S / 2)
                curve = Measurer(brief, running).curve(steps.next)
            steps.next("done")
        apart, failed = _measure_apart(setup, chosen, extent.rounds, steps.same)
    rows = figures.rows(chosen, [*together, *apart])
    facts = machine.facts(triton, f"{used} (--transport {transport})")
    return report.Report(facts, len(together), extent.seconds, rows, curve, {**ended, **failed})


def _install() -> peer.Installation:
    errors.print("finding Triton, or installing it (about 440 MB the first time)")
    return peer.install()


def _measure_together(
    measurer: Measurer, timed: Sequence[Figure], rounds: int, say: Callable[[str], None]
) -> tuple[list[Round], dict[str, str]]:
    """Measures the figures that share servers; returns the whole rounds, and why there are no more, if one failed.

    The rounds before it are kept: they may have taken many minutes.
    """
    measured: list[Round] = []
    try:
        while len(measured) < rounds:
            measured.append(measurer.round(timed, len(measured), say))
    except CompareError as error:
        return measured, {f"round {len(measured) + 1} of {rounds}": str(error)}
    return measured, {}


def _measure_apart(
    setup: Setup, chosen: Sequence[Figure], rounds: int, say: Callable[[str], None]
) -> tuple[list[Round], dict[str, str]]:
    """Measures the figures that need servers of their own; returns the rounds, and why a group was not measured.

    A group that fails costs its own figures only: the others may have taken half an hour.
    """
    measured: list[Round] = []
    failed: dict[str, str] = {}
    for figure in chosen:
        # Some figures share their rounds.
        if figure.is_apart and figure.group not in failed and not any(map(figure.is_in, measured)):
            try:
                measured += _apart(setup, figure, rounds, say)
            except CompareError as error:
                failed[figure.group] = str(error)
    return measured, failed


def _apart(setup: Setup, figure: Figure, rounds: int, say: Callable[[str], None]) -> list[Round]:
    """Measures a figure on its own server: the shared servers have answered requests, and must not be disturbed."""
    if figure.ours.kind == Kind.SWAPPED:
        return swapping.under_load(setup, figure, rounds * figures.SWAPS_A_ROUND, say)
    if figure.ours.kind == Kind.CPU:
        return cost.rounds(setup, figure, rounds * figures.COSTS_A_ROUND, say)
    if figure.ours.kind in (Kind.IDLE, Kind.HELD):
        return held.rounds(setup, figure, say)
    if figure.ours.kind in (Kind.OVERLOADED, Kind.POLITE):
        count = 1 + rounds // figures.ROUNDS_AN_OVERLOAD
        return overload.rounds(setup, figure.ours.server, count, say)
    if figure.ours.kind == Kind.KEPT:
        return target.rounds(setup, 1 + rounds // figures.ROUNDS_AN_OVERLOAD, say)
    if figure.ours.kind == Kind.CLASSIFIED:
        return pictures.rounds(setup, rounds, say)
    if figure.ours.kind == Kind.TUNED:
        return tuned.rounds(setup, rounds, say)
    if figure.ours.kind == Kind.LOADED:
        return loading.rounds(setup, rounds, say)
    if figure.ours.swaps:
        return swapping.memory(setup, figure, say)
    with servers({figures.OURS}, setup, None) as running:
        return [Measurer(setup, running).memory(figure, say)]


def _count(timed: Sequence[Figure], rounds: int, with_curve: bool, with_triton: bool) -> int:
    return rounds * len(figures.order(timed, 0)) + with_curve * figures.SWEEPS * len(figures.LEVELS) * (1 + with_triton)


class _Steps:
    """Shows the current measurement and the remaining ones."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._task, self._done = progress, progress.add_task("starting the servers", total=total), -1

    def next(self, text: str) -> None:
        """Starts the next measurement."""
        self._done += 1
        self._progress.update(self._task, completed=self._done, description=text, refresh=True)

    def same(self, text: str) -> None:
        """Continues a measurement that is already counted."""
        self._progress.update(self._task, completed=self._done, description=text, refresh=True)


def save(outcome: report.Report, folder: Path) -> None:
    """Writes the page, the figures and, if the curve was measured, its charts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.md").write_text(report.as_markdown(outcome))
    (folder / "compare.json").write_text(report.as_json(outcome))
    if outcome.curve:
        plot.draw(outcome.curve, folder)


if __name__ == "__main__":
    app()
