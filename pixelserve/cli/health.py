"""`pixelserve health`: checks whether a server is serving."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import typer

from . import terminal
from .exits import Exit
from .options import Connection, with_connection

SERVING = "SERVING"
_POLL_S = 0.2
_EPILOG = """The server, or one model:

\b
  pixelserve health
  pixelserve health mnist-cnn

Wait for a server that is starting:

\b
  pixelserve health --wait-s 30 && pixelserve classify scans/ --model mnist-cnn --csv digits.csv

The exit code is 0 for SERVING and 11 for other statuses, such as NOT_SERVING while the server loads or drains.
docs/cli.md lists the exit codes of errors.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("health", epilog=_EPILOG)(with_connection(health))


def health(
    service: Annotated[
        str, typer.Argument(help="A model's or a gRPC service's name; default: the whole server.", metavar="[SERVICE]")
    ] = "",
    wait_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for SERVING.", metavar="SECONDS")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    *,
    connection: Connection,
) -> None:
    """Check whether a server, or one of its models, is serving."""
    with connection.client() as client:
        status = wait_until_serving(lambda: client.health(service), wait_s)
    if as_json:
        typer.echo(json.dumps({"service": service, "status": status}))
    else:
        typer.echo(terminal.printable(status))
    if status != SERVING:
        raise typer.Exit(Exit.NOT_SERVING)


def wait_until_serving(
    ask: Callable[[], str],
    wait_s: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Polls until the status is SERVING or the time is over; returns the last status.

    An unreachable server is polled like one that is not ready.

    Raises:
        Exception: the last attempt's error, if it had no answer.
    """
    end_s = now() + wait_s
    while True:
        try:
            status = ask()
        except Exception as error:
            if now() >= end_s or getattr(error, "exit_code", None) != Exit.NOT_NOW:
                raise
        else:
            if status == SERVING or now() >= end_s:
                return status
        sleep(max(0.0, min(_POLL_S, end_s - now())))
