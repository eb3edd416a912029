"""The `pixelserve` command and its subcommands, which import the server or training only when they run."""

import sys
from typing import Annotated, Any

import typer
import typer.core

import pixelserve

from . import (
    autotune,
    bench,
    classify,
    doctor,
    evaluate,
    export,
    health,
    models,
    plan,
    runs,
    serve,
    show,
    token,
    train,
    tune,
    zoo,
)
from .exits import CommandError, Exit


class _Commands(typer.core.TyperGroup):
    """The group of commands. Flushes stdout before it decides the exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command.

        Raises:
            CommandError: the reader of stdout has exited.
        """
        exit_: typer.Exit | None = None
        try:
            try:
                result = super().invoke(ctx)
            except typer.Exit as error:
                result, exit_ = None, error
            # If stdout is a pipe or a file, this may be the first write to it.
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError as error:
            raise CommandError("", Exit.READER_LEFT) from error
        if exit_ is not None:
            raise exit_
        return result


app = typer.Typer(
    name="pixelserve",
    cls=_Commands,
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
tune.register(app)
runs.register(app)
export.register(app)
evaluate.register(app)
autotune.register(app)
classify.register(app)
show.register(app)
models.register(app)
health.register(app)
token.register(app)
bench.register(app)
plan.register(app)


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
