"""`pixelserve autotune`: finds the fastest engine for a version on this machine."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal

_EPILOG = """The highest version of a model in ./models; the result is models/cifar10/tuning.json:

\b
  pixelserve autotune cifar10
  pixelserve serve --model-repository models --engine auto

With the accuracy of each candidate, and int8, calibrated on training images:

\b
  pixelserve autotune cifar10 --data-dir data      # data/cifar-10-batches-bin and so on
  pixelserve autotune pets --samples samples.npz   # inputs x and labels y

For the requests of one day, from the server's access log or a file of arrival_s,rows:

\b
  pixelserve serve --model-repository models --access-log-per-s 100000 2> server.log
  pixelserve autotune cifar10 --trace server.log

The exit code is 5 and nothing is written if something else uses the machine.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(autotune)


def autotune(
    model: Annotated[
        str, typer.Argument(help="NAME or NAME:VERSION in the repository, or a model's or a version's folder.")
    ],
    model_repository: Annotated[
        Path,
        typer.Option(
            envvar="PIXELSERVE_MODEL_REPOSITORY", help="The model repository that contains NAME.", metavar="DIR"
        ),
    ] = Path("models"),
    trace: Annotated[
        Path | None,
        typer.Option(help="Recorded requests to tune for: arrival_s,rows, or the server's access log.", metavar="FILE"),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="An .npz file of inputs x and labels y, to measure accuracy.", metavar="FILE"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the card's data set, to measure accuracy and to calibrate int8.",
            metavar="DIR",
        ),
    ] = None,
    max_accuracy_loss: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="Points of accuracy that a candidate may lose.", metavar="POINTS"),
    ] = 0.1,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds over all candidates and batch sizes.")] = 7,
    round_ms: Annotated[float, typer.Option(min=1.0, help="Milliseconds of each measurement.", metavar="MS")] = 100.0,
    max_spread: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Percent by which a speed-up may be uncertain (95 % interval) if it is too close to 1.05 to tell.",
            metavar="PERCENT",
        ),
    ] = 10.0,
    output: Annotated[
        Path | None,
        typer.Option(help="Write this file in place of tuning.json in the model's folder.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Find the fastest engine for a model on this machine that computes the same."""
    tool = extras.load("pixelserve_server.tools.autotuning.autotune", extra="server")
    find = extras.load("pixelserve_server.tools.autotuning.find", extra="server")
    folder, version = find.find_version(model, model_repository)
    read = extras.load("pixelserve_server.tools.autotuning.trace", extra="server")
    recorded = read.read_trace(trace, folder.name) if trace is not None else None
    with tempfile.TemporaryDirectory() as temporary, _progress() as on_step:
        labelled, int8_model, missing = _labelled(folder, version, Path(temporary), samples, data_dir, on_step)
        wishes = tool.Wishes(
            samples=labelled,
            trace=recorded,
            int8_model=int8_model,
            most_loss=max_accuracy_loss / 100,
            most_spread=max_spread / 100,
            rounds=rounds,
            seconds=round_ms / 1e3,
            output=output,
        )
        outcome = tool.autotune(folder, version, wishes, on_step)
    if as_json:
        typer.echo(json.dumps(_as_json(outcome, missing), indent=2))
    else:
        _print(f"{folder.name} version {version}", outcome, missing)


def _labelled(
    folder: Any, version: int, temporary: Path, samples: Path | None, data_dir: Path | None, on_step: Any
) -> tuple[Any, Path | None, list[str]]:
    """Returns the labelled samples, the int8 model, and sentences on what is missing of them."""
    if samples is None and data_dir is None:
        return None, None, ["accuracy was not measured, nor int8: give --samples FILE.npz or --data-dir DIR"]
    on_step("preparing samples")
    prepare = extras.load("pixelserve_training.measuring.race_data", extra="training").prepare
    race = extras.load("pixelserve_server.tools.autotuning.race", extra="server")
    data = prepare(folder.version_path(version), temporary, samples=samples, data_dir=data_dir)
    labelled = race.Labelled(data.inputs, data.targets, data.output, data.source)
    return labelled, data.int8_model, [f"no int8: {data.without_int8}"] if data.without_int8 else []


@contextmanager
def _progress() -> Iterator[Callable[[str], object]]:
    """Yields a function that shows a step on stderr, if that is a terminal."""
    console = terminal.console(stderr=True)
    if not console.is_terminal:
        yield lambda _step: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        # The number of steps is not known before the candidates are.
        task = bar.add_task("", total=None)
        yield lambda step: bar.update(task, description=step)


def _print(title: str, outcome: Any, missing: list[str]) -> None:
    largest = outcome.sizes[-1]
    sizes = [size for size in (1, 8, 32, largest) if size in outcome.sizes]
    columns = [f"µs at {size}" for size in dict.fromkeys(sizes)]
    shown = terminal.table(
        *("engine", "precision", "sessions × threads", *columns, "speed-up", "accuracy", "evidence"),
        right=(*columns, "speed-up", "accuracy"),
    )
    for entry in outcome.entries:
        candidate = entry.candidate
        measured = [f"{entry.time_us(size):,.0f}" if size in entry.rates else "" for size in dict.fromkeys(sizes)]
        accuracy = "" if entry.accuracy is None else f"{entry.accuracy:.2%}"
        speedup = outcome.speedups.get(candidate.title)
        terminal.add_row(
            shown,
            *(candidate.engine, candidate.precision, f"{candidate.sessions} × {candidate.threads}", *measured),
            *(
                "" if speedup is None else f"{speedup.times:.2f}",
                accuracy,
                f"out: {entry.out}" if entry.out else entry.evidence,
            ),
        )
    typer.echo(terminal.printable(f"{title}, time of a run by batch size; speed-up for {_workload(outcome)}"))
    terminal.print_table(shown)
    for sentence in (*missing, *_about_int8(outcome), outcome.why):
        typer.echo(terminal.printable(sentence))
    if outcome.tuned is None:
        typer.echo("nothing was written")
        return
    tuned = outcome.tuned
    buckets = f", padded to {', '.join(map(str, tuned.buckets))}" if tuned.buckets else ""
    typer.echo(f"batches of at most {tuned.batch_limit}{buckets}, queue delay {tuned.queue_delay_us} µs")
    typer.echo(terminal.printable(f"{outcome.written}: used by `pixelserve serve --engine auto`"))


def _workload(outcome: Any) -> str:
    return "batches of " + ", ".join(f"{rows} ({share:.0%})" for rows, share in outcome.weights.items())


def _about_int8(outcome: Any) -> list[str]:
    """Says how to serve int8 if it is the fastest: its file has other weights, so it is a version of its own."""
    fastest = max(outcome.speedups, key=lambda title: outcome.speedups[title].times, default="")
    entries = [each for each in outcome.entries if each.candidate.title == fastest]
    if not entries or entries[0].candidate.can_be_served:
        return []
    return ["int8 is the fastest; to serve it, publish it as a version: `pixelserve export … --precision int8`"]


def _speedup(found: Any) -> dict[str, Any] | None:
    return found and {"times": round(found.times, 4), "interval": [round(found.low, 4), round(found.high, 4)]}


def _as_json(outcome: Any, missing: list[str]) -> dict[str, Any]:
    return {
        "candidates": [
            {
                "engine": entry.candidate.engine,
                "precision": entry.candidate.precision,
                "sessions": entry.candidate.sessions,
                "threads": entry.candidate.threads,
                "run_us": {str(size): round(entry.time_us(size), 1) for size in entry.times_us},
                "rows_per_s": {str(size): round(entry.rate(size), 1) for size in entry.rates},
                "speedup": _speedup(outcome.speedups.get(entry.candidate.title)),
                "accuracy": entry.accuracy,
                "changed_labels": entry.changed_labels,
                "evidence": entry.evidence,
                "out": entry.out or None,
            }
            for entry in outcome.entries
        ],
        "workload": {str(rows): share for rows, share in outcome.weights.items()},
        "missing": missing,
        "why": outcome.why,
        "tuned": outcome.tuned.model_dump(mode="json") if outcome.tuned is not None else None,
        "written": str(outcome.written) if outcome.written is not None else None,
    }
