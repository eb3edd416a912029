"""Assigns separate cores to the servers and the load, so neither takes the other's CPU time."""

import os
import shutil
from dataclasses import dataclass

from .errors import MissingToolError


@dataclass(frozen=True)
class Cores:
    """Cores of this machine; the first two differ."""

    server: int
    """The core of every server, and of ONNX Runtime alone."""
    load: int
    """The core of the load generators and of this process."""
    second: int
    """The second core of servers with two; on a machine with two cores, the load's."""

    def pin_server(self, count: int = 1) -> list[str]:
        """Returns a command prefix that runs on the server's core or cores."""
        cores = (self.server, self.second)[:count]
        return [tool("taskset", "util-linux"), "--cpu-list", ",".join(map(str, cores))]

    def pin_load(self) -> list[str]:
        """Returns a command prefix that runs on the load's core."""
        return [tool("taskset", "util-linux"), "--cpu-list", str(self.load)]


def choose() -> Cores:
    """Returns the first cores available to this process.

    Raises:
        MissingToolError: only one is available.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise MissingToolError(
            f"the comparison needs two cores, one for the server and one for the load; found {len(allowed)}"
        )
    return Cores(allowed[0], allowed[1], allowed[2] if len(allowed) > 2 else allowed[1])


def tool(name: str, package: str) -> str:
    """Returns the path of a command.

    Raises:
        MissingToolError: it is not installed; the message names the Debian package.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"there is no {name} on this machine (Debian: apt install {package})")
    return path
