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

Measure the exported models in ./models again, on the samples of their cards, with ONNX Runtime alone:

\b
  pixelserve zoo --measure --data-dir data

The exit code is 14 if an exported model misses its recipe's goal; a time that varies because the machine is busy is
not judged. The names of all recipes:

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
        _print([cells(row, measured=measure) for row in rows], markdown=markdown)
        for row in rows:
            if row.problem:
                typer.echo(terminal.printable(f"{row.recipe.name}: {row.problem}"))
    if any(row.goal_met is False for row in rows):
        raise typer.Exit(Exit.OTHER_FIGURES)


def cells(row: Any, *, measured: bool = False) -> dict[str, str]:
    """Returns a row's texts by column; `measured` adds the current figures of the exported model."""
    recipe = row.recipe
    shown = {
        "recipe": recipe.name,
        "data set": recipe.dataset,
        "parameters": f"{recipe.parameters:,}",
        "goal": _goal(recipe.goal),
        "claimed": _claim(recipe),
        "95% interval": _interval(recipe.interval),
    }
    if measured:
        shown |= {"measured": _measured(row), "its 95% interval": _measured_interval(row), "time": _time(row)}
    return shown | {"training": _duration(recipe.training_s)}


def _goal(goal: Any) -> str:
    bound = f"{'≥' if goal.metric == 'accuracy' else '≤'} {_figure(goal, goal.bound)}"
    where = "" if goal.split == "test" else f" {goal.split}"
    if goal.slowdown is None:
        return f"{bound}{where}"
    than = "" if goal.yardstick == "mnist-cnn" else f" of {goal.yardstick}"
    return f"{bound}{where}, time ≤ {goal.slowdown:g}{than}"


def _claim(recipe: Any) -> str:
    figures = sorted(recipe.measured.values())
    mean = _figure(recipe.goal, recipe.claimed)
    if recipe.spread is None:
        return f"{mean} (one seed)"
    spread = f"{100 * recipe.spread:.2f}" if recipe.goal.metric == "accuracy" else f"{recipe.spread:.1g}"
    return f"{mean} ± {spread} ({_figure(recipe.goal, figures[0])} to {_figure(recipe.goal, figures[-1])})"


def _measured(row: Any) -> str:
    if row.measured is None:
        return ""
    figure = _figure(row.recipe.goal, row.measured.figure)
    where = "" if row.measured.split == row.recipe.goal.split else f" {row.measured.split}"
    return f"{figure}{where}{' MISSED' if row.goal_met is False else ''}"


def _measured_interval(row: Any) -> str:
    return "" if row.measured is None else _interval(row.measured.interval)


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else ""


def _time(row: Any) -> str:
    if row.measured is None or row.measured.slowdown is None:
        return ""
    return f"{row.measured.slowdown:.2f}{' (not judged)' if row.time_goal == 'not judged' else ''}"


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
