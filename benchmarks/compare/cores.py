"""Which cores compute and which sends: on cores of their own, neither takes the other's time."""

import os
import shutil
from dataclasses import dataclass

from .errors import MissingToolError


@dataclass(frozen=True)
class Cores:
    """Cores of this machine, the first two different ones."""

    server: int
    """Number of the core that every server, and ONNX Runtime alone, is pinned to."""
    load: int
    """Number of the core of the load generators and of this process."""
    second: int
    """Number of the second core of a server that is given two; the load's, on a machine that has only two."""

    def pin_server(self, count: int = 1) -> list[str]:
        """Returns the start of a command line that runs on the server's core, or on its two."""
        cores = (self.server, self.second)[:count]
        return [tool("taskset", "util-linux"), "--cpu-list", ",".join(map(str, cores))]

    def pin_load(self) -> list[str]:
        """Returns the start of a command line that runs on the other core."""
        return [tool("taskset", "util-linux"), "--cpu-list", str(self.load)]


def choose() -> Cores:
    """Returns the first cores that this process may use.

    Raises:
        MissingToolError: there is only one.
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
