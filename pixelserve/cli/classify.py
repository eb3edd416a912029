"""`pixelserve classify`: classifies pictures."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pixelserve.imaging.files import SUFFIXES, Finder
from pixelserve.imaging.formats import NAMES

from . import pictures, terminal
from .exits import CommandError, Exit
from .options import Connection, with_connection
from .predictions import Csv, JsonLines, Rows, Sink, new_file
from .seen import SeenFolder

if TYPE_CHECKING:
    from rich.progress import Progress

    from pixelserve.client import Prediction

_EPILOG = """One picture, or several:

\b
  pixelserve classify digit.png --model mnist-cnn
  pixelserve classify examples/mnist/*.png --model mnist-cnn --top 1

A folder and its subfolders, with a progress bar, into a file that appears when it is complete:

\b
  pixelserve classify scans/ --model mnist-cnn --csv digits.csv

One JSON object per line, for other programs:

\b
  pixelserve classify scans/ --model mnist-cnn --json | jq -r '[.path, .classes[0].label] | @tsv'

Dark ink on white paper, for a model trained on light digits on black:

\b
  pixelserve classify photo.jpg --model mnist-cnn --inversion auto

Each picture as the model saw it, and which parts of it the answer depends on, as pictures:

\b
  pixelserve classify digit.png --model mnist-cnn --save-seen seen --occlusion 7

A picture that cannot be read has an error in its row and does not affect the others; the exit code is then 10.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("classify", epilog=_EPILOG)(with_connection(classify))


def classify(
    images: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            readable=False,
            help=f"Pictures, or folders of them ({NAMES}).",
            metavar="PICTURE",
        ),
    ],
    model: Annotated[str, typer.Option(help="The model's name; `pixelserve models list` shows them.", metavar="NAME")],
    model_version: Annotated[
        str, typer.Option(help="The model's version; default: the server's choice.", metavar="NUMBER")
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many of the best classes to show.")] = 3,
    inversion: Annotated[
        Literal["never", "always", "auto"] | None,
        typer.Option(help="Invert pictures; default: the model's setting."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture, one per line.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Write a CSV file; it appears only when complete.", metavar="FILE")
    ] = None,
    save_seen: Annotated[
        Path | None,
        typer.Option(help="Save each picture as the model saw it, as NUMBER-NAME.png.", metavar="DIR"),
    ] = None,
    occlusion: Annotated[
        int,
        typer.Option(
            min=0,
            max=8,
            help="Measure how much covering each of CELLS x CELLS cells lowers the best class (--json, --save-seen).",
            metavar="CELLS",
        ),
    ] = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures per request; default: 32.")] = None,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Requests in flight; default: 8.")] = None,
    *,
    connection: Connection,
) -> None:
    """Classify pictures, one row each."""
    _check(images, as_json, csv)
    _check_seen(images, save_seen, occlusion, as_json)
    finder = Finder()
    seen = SeenFolder(save_seen) if save_seen else None
    with connection.client(batch_size=batch_size, max_in_flight=in_flight) as client, _sink(as_json, csv, top) as sink:
        started_s = time.monotonic()
        predictions = client.classify_iter(
            pictures.find(images, finder),
            model=model,
            version=model_version,
            top_k=top,
            inversion=inversion,
            return_seen=seen is not None,
            occlusion=occlusion,
        )
        found = _write(predictions, [sink, *filter(None, [seen])], images, finder)
    _finish(found, finder, time.monotonic() - started_s)


def _check(images: Sequence[Path], as_json: bool, csv: Path | None) -> None:
    if csv is None:
        return
    if as_json:
        raise typer.BadParameter("--json and --csv exclude each other")
    # A path that cannot be inspected cannot be written either; the write reports it.
    if os.path.exists(csv) and not csv.is_file():  # noqa: PTH110
        raise typer.BadParameter(f"--csv: {csv} exists and is not a regular file; for a pipe use --json")
    if any(csv.resolve() == image.resolve() for image in images):
        raise typer.BadParameter(f"--csv: {csv} is one of the pictures")


def _check_seen(images: Sequence[Path], save_seen: Path | None, occlusion: int, as_json: bool) -> None:
    if occlusion and not (as_json or save_seen):
        raise typer.BadParameter("--occlusion needs --json, or --save-seen DIR to draw the map over the picture")
    if save_seen is None:
        return
    # The saved pictures would be classified too.
    if inside := next((one for one in images if save_seen.resolve().is_relative_to(one.resolve())), None):
        raise typer.BadParameter(f"--save-seen: {save_seen} is inside {inside}, whose pictures are classified")


@contextmanager
def _sink(as_json: bool, csv: Path | None, top: int) -> Iterator[Sink]:
    if csv is not None:
        with new_file(csv) as file:
            yield Csv(file, top)
        return
    sink: Sink = JsonLines() if as_json else Rows()
    try:
        yield sink
    except Exception:
        # If the server fails midway, the answers so far are kept, like lines that are already printed.
        sink.close()
        raise
    sink.close()


def _write(
    predictions: "Iterator[Prediction]", sinks: Sequence[Sink | SeenFolder], images: Sequence[Path], finder: Finder
) -> Counter[bool]:
    """Writes all predictions; returns the number with (True) and without (False) an error."""
    found: Counter[bool] = Counter()
    with _progress(images) as bar:
        (task,) = bar.task_ids
        for prediction in predictions:
            for sink in sinks:
                sink.add(prediction)
            found[bool(prediction.error)] += 1
            bar.advance(task)
    if not found:
        skipped = finder.skipped()
        raise CommandError(
            f"no pictures in {', '.join(map(str, images))}{f' ({skipped})' if skipped else ''}; "
            f"expected files that end in {', '.join(SUFFIXES)}",
            Exit.USAGE,
        )
    return found


def _progress(images: Sequence[Path]) -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = terminal.console(stderr=True)
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Rows go above the bar if both are on one terminal; otherwise the bar must not touch stdout.
    both = sys.stdout.isatty()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=both)
    bar.add_task("", total=pictures.count(images) if console.is_terminal else None)
    return bar


def _finish(found: Counter[bool], finder: Finder, took_s: float) -> None:
    total, failed = found.total(), found[True]
    rate = total / took_s if took_s else 0.0
    noun = "picture" if total == 1 else "pictures"
    skipped = f"; skipped: {finder.skipped()}" if finder.skipped() else ""
    print(f"{total:,} {noun}, {failed:,} failed, {took_s:.2f} s, {rate:,.0f} pictures/s{skipped}", file=sys.stderr)
    if failed:
        raise typer.Exit(Exit.PICTURE_FAILED)
