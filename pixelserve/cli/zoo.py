"""`pixelserve zoo`: the recipes, their claims, and new measurements of their exported models."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal
from .exits import Exit

_EPILOG = """All recipes, with their goals and accuracies:

\b
  pixelserve zoo

Measure the exported models in ./models again, on the data of each claim, with ONNX Runtime alone:

\b
  pixelserve zoo --measure --data-dir data

The exit code is 14 if an exported model misses its recipe's goal. The names of all recipes:

\b
  pixelserve zoo --json | jq -r '.[].recipe'
"""
_SECONDS_A_MINUTE = 60


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(zoo)


def zoo(
    measure: Annotated[bool, typer.Option("--measure", help="Measure each recipe's exported model again.")] = False,
    model_repository: Annotated[
        Path,
        typer.Option(envvar="PIXELSERVE_MODEL_REPOSITORY", help="The repository of exported models.", metavar="DIR"),
    ] = Path("models"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the data sets' official files; without it, Keras downloads them.",
            metavar="DIR",
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of recipes as JSON.")] = False,
) -> None:
    """List the recipes with data set, parameters, goal, claimed figure and training time; or measure them again."""
    listing = extras.load("pixelserve_training.measuring.listing", extra="training")
    rows = listing.measured_rows(model_repository, data_dir) if measure else listing.rows()
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        _print([_cells(row, measured=measure) for row in rows], markdown=markdown)
        for row in rows:
            if row.problem:
                typer.echo(terminal.printable(f"{row.recipe.name}: not measured: {row.problem}"))
    if any(row.goal_met is False for row in rows):
        raise typer.Exit(Exit.OTHER_FIGURES)


def _cells(row: Any, *, measured: bool) -> dict[str, str]:
    """Returns a row's texts by column."""
    recipe = row.recipe
    cells = {
        "recipe": recipe.name,
        "data set": recipe.dataset,
        "parameters": f"{recipe.parameters:,}",
        "goal": _goal(recipe.goal),
        "claimed": _claim(recipe),
    }
    if measured:
        cells |= {"measured": _measured(row), "95% interval": _interval(row), "time": _time(row)}
    return cells | {"training": _duration(recipe.training_s)}


def _goal(goal: Any) -> str:
    bound = f"{'≥' if goal.metric == 'accuracy' else '≤'} {_figure(goal, goal.bound)}"
    where = "" if goal.split == "test" else f" {goal.split}"
    return f"{bound}{where}" if goal.slowdown is None else f"{bound}{where}, time ≤ {goal.slowdown:g}"


def _claim(recipe: Any) -> str:
    figures = sorted(recipe.measured.values())
    median = _figure(recipe.goal, recipe.claimed)
    if len(figures) == 1:
        return f"{median} (one run)"
    return f"{median} ({_figure(recipe.goal, figures[0])} to {_figure(recipe.goal, figures[-1])})"


def _measured(row: Any) -> str:
    if row.measured is None:
        return ""
    figure = _figure(row.recipe.goal, row.measured.figure)
    where = "" if row.measured.split == row.recipe.goal.split else f" {row.measured.split}"
    return f"{figure}{where}{' MISSED' if row.goal_met is False else ''}"


def _interval(row: Any) -> str:
    if row.measured is None or row.measured.interval is None:
        return ""
    low, high = row.measured.interval
    return f"{low:.2%} to {high:.2%}"


def _time(row: Any) -> str:
    return "" if row.measured is None or row.measured.slowdown is None else f"{row.measured.slowdown:.2f}"


def _figure(goal: Any, figure: float) -> str:
    return f"{figure:.2%}" if goal.metric == "accuracy" else f"{figure:.5g}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 2 * _SECONDS_A_MINUTE else f"{seconds / _SECONDS_A_MINUTE:.0f} min"


def _print(rows: list[dict[str, str]], *, markdown: bool) -> None:
    columns = list(rows[0])
    if markdown:
        for cells in (columns, ["---"] * len(columns), *(row.values() for row in rows)):
            typer.echo(f"| {' | '.join(cells)} |")
        return
    shown = terminal.table(*columns, right=("parameters", "time", "training"))
    for row in rows:
        terminal.add_row(shown, *row.values())
    terminal.print_table(shown)
