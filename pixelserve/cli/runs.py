"""`pixelserve runs`: lists and compares training runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal

_EPILOG = """Examples:

\b
  pixelserve runs
  pixelserve runs runs/digits --json

Figures are of held-out samples where the run held some out, and say so where not. The last column has the settings that
are not those of most runs of the recipe, in the form that `pixelserve train --set` accepts.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(runs)


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs' folders.", metavar="DIR")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the runs as JSON on stdout.")] = False,
) -> None:
    """List the runs in a folder, the best first, and what differs in their settings."""
    listed = extras.load("pixelserve_training.running.listed_runs", extra="training").listed(folder)
    if as_json:
        typer.echo(json.dumps([run.as_json() for run in listed], indent=2))
        return
    if not listed:
        typer.echo(f"no runs in {folder}; pixelserve train writes them")
        return
    columns = ("run", "recipe", "date", "seed", "epochs", "figure", "95% interval", "split", "time", "settings")
    shown = terminal.table(*columns, right=("seed", "epochs", "figure", "time"))
    for run in listed:
        terminal.add_row(shown, *_cells(run))
    terminal.print_table(shown)


def _cells(run: Any) -> list[str]:
    date = run.date[:16].replace("T", " ")
    if run.state == "damaged":
        return [run.folder, "", date, "", "", "", "", "damaged", "", run.problem]
    figure, interval, split = "", "", run.state if run.state == "unfinished" else ""
    if run.figure is not None:
        form = ".2%" if run.figure.metric == "accuracy" else ".4g"
        figure, split = f"{run.figure.value:{form}}", run.figure.split
        split += "" if run.chosen_by is None else f" of {run.chosen_by}"
        interval = " to ".join(f"{bound:.2%}" for bound in run.figure.interval or ())
    time = "" if run.training_s is None else f"{run.training_s:,.0f} s"
    differs = " ".join(f"{path}={_text(value)}" for path, value in run.differs.items())
    epochs = "" if run.epochs is None else str(run.epochs)
    return [run.folder, run.recipe, date, str(run.seed), epochs, figure, interval, split, time, differs]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower() if value is None else str(value)
