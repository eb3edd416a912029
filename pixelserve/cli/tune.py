"""`pixelserve tune`: searches for a recipe's values."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal

_EPILOG = """Examples:

\b
  pixelserve tune mnist-mlp --trials 20
  pixelserve tune mnist-mlp --trials 20 --space optimizer.learning_rate=1e-4..1e-1:log --space batch_size=64,128
  pixelserve tune my_recipe.py --trials 50 --set epochs=3

A range is PATH=LOW..HIGH, with :log at its end to draw by the logarithm, or PATH=VALUE,VALUE; paths are those of
`pixelserve train --set`. Without --space, the learning rate, the batch size, the weight decay and dropout are tried.
All trials are measured on the same held-out samples, never on the test split. The same --study continues a search.
Needs Optuna: pip install -e '.[tune]'.
"""
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(tune)


def tune(
    recipe: Annotated[str, typer.Argument(help="The recipe's name, or a file of your own.", metavar="RECIPE|FILE.py")],
    trials: Annotated[int, typer.Option(help="Number of trials to add.", min=1)] = 20,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to try, such as optimizer.learning_rate=1e-4..1e-1:log; repeatable.", metavar="RANGE"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value of the recipe for all trials; repeatable.", metavar="PATH=VALUE"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same values in the same order.", min=0)] = 0,
    study: Annotated[
        Path | None,
        typer.Option(help="The file to continue from; default: runs/RECIPE.study.", metavar="FILE"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the data set's official files; without it, Keras downloads them.",
            metavar="DIR",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Search for a recipe's values on held-out samples, and print the command that trains with the best."""
    extras.load("optuna", extra="tune")
    overrides = extras.load("pixelserve_training.running.overrides", extra="training").merged({}, settings)
    tuning = extras.load("pixelserve_training.running.tune", extra="training").tune(
        recipe, trials=trials, data_dir=data_dir, fixed=overrides, space=tuple(space or ()), seed=seed, study=study
    )
    if as_json:
        typer.echo(json.dumps(tuning.as_json(), indent=2))
        return
    _print(tuning)


def _print(tuning: Any) -> None:
    if not tuning.trials:
        typer.echo(f"no trial was finished; {tuning.study} continues")
        return
    paths = list(tuning.trials[0].values)
    name = f"held-out {tuning.metric.replace('_', ' ')}"
    shown = terminal.table("trial", name, "95% interval", *paths, right=("trial", name, *paths))
    for trial in tuning.trials[:_SHOWN]:
        figure = f"{trial.figure:.2%}" if tuning.metric == "accuracy" else f"{trial.figure:.4g}"
        interval = " to ".join(f"{bound:.2%}" for bound in trial.interval or ())
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.values.values())
        terminal.add_row(shown, str(trial.number), figure, interval, *cells)
    terminal.print_table(shown)
    failed = f", {tuning.failed} without a result" if tuning.failed else ""
    typer.echo(f"{len(tuning.trials)} trials on {tuning.samples:,} held-out samples{failed}; kept in {tuning.study}")
    typer.echo(f"next: {tuning.command}")
