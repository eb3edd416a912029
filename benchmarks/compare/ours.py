"""PixelServe, started as a user would start it."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from . import repositories
from .bodies import ROOT
from .cores import Cores
from .process import Server, running


def serve(
    name: str, cores: Cores, transport: str = "auto", *, repository: Path = ROOT / "models", options: Sequence[str] = ()
) -> AbstractContextManager[Server]:
    """Runs `pixelserve serve` on a repository, with its defaults beside the transport and further `options`."""
    command = [*cores.pin_server(), sys.executable, "-m", "pixelserve", "serve"]
    command += ["--model-repository", str(repository), "--http-port", "0", "--grpc-port", "0"]
    command += ["--metrics-port", "0"]
    return running(name, [*command, "--transport", transport, *options], _port)


@contextmanager
def serve_copies(name: str, cores: Cores, models: int) -> Iterator[Server]:
    """Runs it on so many copies of the measured model, one of them under the model's own name."""
    with repositories.repository(models) as place, serve(name, cores, repository=place) as server:
        yield server


def _port(said: str) -> int | None:
    """Returns the gRPC port of the start-up line, once it is there."""
    for line in said.splitlines():
        if line.startswith("{") and line.endswith("}"):
            event = json.loads(line)
            if event["event"] == "serving":
                return int(event["grpc"].rpartition(":")[2])
    return None
