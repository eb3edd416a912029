"""The `pixelserve` command. Each subcommand has its own file, and imports the server or training only when it runs."""

import os
import sys
from typing import Any

from . import extras
from .exits import Exit


def main() -> None:
    """Runs the command.

    Errors with an `exit_code` and errors of the operating system, such as a full disk, are printed on stderr as one
    sentence; any other exception is a bug.
    """
    try:
        _run()
    except Exception as error:
        exit_code = getattr(error, "exit_code", Exit.FAILED if isinstance(error, OSError) else None)
        if exit_code is None:
            raise
        if message := _sentence(error):
            print(f"pixelserve: {message}", file=sys.stderr)
        _discard_stdout()
        sys.exit(exit_code)


def _run() -> None:
    if sys.argv[1:2] == ["serve"]:
        # As the command does, without importing the other commands: 2 MB of memory as long as the server runs.
        sys.exit(extras.load("pixelserve_server.command", extra="server").main(sys.argv[2:]))
    from .commands import app

    app()


def __getattr__(name: str) -> Any:
    """Loads the commands on first use (PEP 562)."""
    if name == "app":
        from .commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
