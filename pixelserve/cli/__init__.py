"""The `pixelserve` command. A subcommand has a file of its own and loads the server or training only when it runs."""

import sys
from typing import Annotated

import typer

import pixelserve

from . import bench, classify, doctor, evaluate, export, health, models, serve, train, zoo

app = typer.Typer(
    name="pixelserve",
    help="From a public image data set to a production endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
serve.register(app)
doctor.register(app)
zoo.register(app)
train.register(app)
export.register(app)
evaluate.register(app)
classify.register(app)
models.register(app)
health.register(app)
bench.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(pixelserve.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a public image data set to a production endpoint."""


def main() -> None:
    """Runs the command. An error that carries an `exit_code` is one sentence on stderr; any other is a bug."""
    try:
        app()
    except Exception as error:
        exit_code = getattr(error, "exit_code", None)
        if exit_code is None:
            raise
        print(f"pixelserve: {error}", file=sys.stderr)
        sys.exit(exit_code)
