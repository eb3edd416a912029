"""PixelServe, started as a user would start it."""

import json
import sys
from contextlib import AbstractContextManager

from .bodies import ROOT
from .cores import Cores
from .process import Server, running


def serve(name: str, cores: Cores, transport: str = "auto") -> AbstractContextManager[Server]:
    """Runs `pixelserve serve` on the committed models, with its defaults beside the transport."""
    command = [*cores.pin_server(), sys.executable, "-m", "pixelserve", "serve"]
    command += ["--model-repository", str(ROOT / "models"), "--http-port", "0", "--grpc-port", "0"]
    command += ["--metrics-port", "0"]
    return running(name, [*command, "--transport", transport], _port)


def _port(said: str) -> int | None:
    """Returns the gRPC port of the start-up line, once it is there."""
    for line in said.splitlines():
        if line.startswith("{") and line.endswith("}"):
            event = json.loads(line)
            if event["event"] == "serving":
                return int(event["grpc"].rpartition(":")[2])
    return None
