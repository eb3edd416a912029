"""The `pixelserve` command. Each subcommand has its own file, and imports the server or training only when it runs."""

import os
import sys
from typing import Annotated, Any

import typer
import typer.core

import pixelserve

from . import bench, classify, doctor, evaluate, export, health, models, plan, serve, show, token, train, zoo
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
export.register(app)
evaluate.register(app)
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


def main() -> None:
    """Runs the command.

    Errors with an `exit_code` and errors of the operating system, such as a full disk, are printed on stderr as one
    sentence; any other exception is a bug.
    """
    try:
        app()
    except Exception as error:
        exit_code = getattr(error, "exit_code", Exit.FAILED if isinstance(error, OSError) else None)
        if exit_code is None:
            raise
        if message := _sentence(error):
            print(f"pixelserve: {message}", file=sys.stderr)
        _discard_stdout()
        sys.exit(exit_code)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _discard_stdout() -> None:
    """Drops unwritten output; otherwise the interpreter prints an error at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
