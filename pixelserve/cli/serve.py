"""`pixelserve serve`: passes its arguments to the server, whose settings are its options."""

import sys

import typer

from . import extras


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "serve",
        help="Serve a model repository over gRPC and HTTP (see `pixelserve serve --help`).",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(serve)


def serve(context: typer.Context) -> None:
    """Runs the server until it stops, and exits with its exit code."""
    server = extras.load("pixelserve_server.command", extra="server")
    sys.exit(server.main(context.args))
