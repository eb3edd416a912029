"""Starts PixelServe like a user."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from . import repositories
from .bodies import ROOT
from .cores import Cores
from .errors import ServerError, tail
from .process import Server, running


class Transport(StrEnum):
    """The values of `pixelserve serve --transport`."""

    AUTO = "auto"
    H2CORN = "h2corn"
    GRPCIO = "grpcio"


def serve(
    name: str,
    cores: Cores,
    transport: Transport,
    *,
    on_cores: int = 1,
    repository: Path = ROOT / "models",
    options: Sequence[str] = (),
    module: str = "pixelserve",
) -> AbstractContextManager[Server]:
    """Runs `pixelserve serve` on a repository, with defaults except for the transport and additional `options`.

    It has one core or two. `module` replaces the `pixelserve` command.
    """
    command = [*cores.pin_server(on_cores), sys.executable, "-m", module, "serve"]
    command += ["--model-repository", str(repository), "--http-port", "0", "--grpc-port", "0"]
    command += ["--metrics-port", "0"]
    return running(name, [*command, "--transport", transport, *options], _port)


@contextmanager
def serve_copies(name: str, cores: Cores, transport: Transport, models: int) -> Iterator[Server]:
    """Runs it with `models` copies of the measured model, one of them under its own name."""
    with repositories.repository(models) as place, serve(name, cores, transport, repository=place) as server:
        yield server


def metrics_url(server: Server) -> str:
    """Returns the address of a server's metrics page.

    Raises:
        ServerError: it is not a PixelServe server.
    """
    return str(_started(server)["metrics"])


def http_port(server: Server) -> int:
    """Returns the port of a server's HTTP API.

    Raises:
        ServerError: it is not a PixelServe server.
    """
    return int(_started(server)["http"].rpartition(":")[2])


def transport_name(server: Server) -> str:
    """Returns the transport that a server reports.

    Raises:
        ServerError: not a PixelServe server.
    """
    return str(_started(server)["transport"])


def _started(server: Server) -> dict[str, Any]:
    start = _start(server.log.read_text())
    if start is None:
        raise ServerError(f"expected {server.name} to have logged that it is serving; its output:\n{tail(server.log)}")
    return start


def _port(said: str) -> int | None:
    """Returns the gRPC port from the start-up line, once it is logged."""
    start = _start(said)
    return None if start is None else int(start["grpc"].rpartition(":")[2])


def _start(said: str) -> dict[str, Any] | None:
    """Returns the start-up line, once it is logged."""
    for line in said.splitlines():
        if line.startswith("{") and line.endswith("}"):
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "serving":
                return event
    return None
