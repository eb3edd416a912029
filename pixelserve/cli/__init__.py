"""The `pixelserve` command. A subcommand has a file of its own and loads the server or training only when it runs."""

import os
import sys
from typing import Annotated, Any

import typer
import typer.core

import pixelserve

from . import bench, classify, doctor, evaluate, export, health, models, plan, serve, token, train, zoo
from .exits import CommandError, Exit


class _Commands(typer.core.TyperGroup):
    """The commands; what one has printed is written before its exit code is decided."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command.

        Raises:
            CommandError: the program that read stdout has ended.
        """
        exit_: typer.Exit | None = None
        try:
            try:
                result = super().invoke(ctx)
            except typer.Exit as error:
                result, exit_ = None, error
            # Where stdout is a pipe or a file, this may be the first that is written.
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
export.register(app)
evaluate.register(app)
classify.register(app)
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


def main() -> None:
    """Runs the command.

    An error that carries an `exit_code` is one sentence on stderr, and so is what the system refuses, such as writing
    to a full disk; any other is a bug.
    """
    try:
        app()
    except Exception as error:
        exit_code = getattr(error, "exit_code", Exit.FAILED if isinstance(error, OSError) else None)
        if exit_code is None:
            raise
        if message := _sentence(error):
            print(f"pixelserve: {message}", file=sys.stderr)
        _let_go_of_stdout()
        sys.exit(exit_code)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _let_go_of_stdout() -> None:
    """Drops what cannot be written, which the interpreter would complain of at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
