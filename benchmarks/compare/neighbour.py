"""A busy process on the server's core, as in a pod with shared CPUs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .cores import Cores
from .errors import LoadError

# Exits if this process is killed. Prints a line when the loop starts.
_LOOP = """
import os
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def busy(cores: Cores) -> Iterator[int]:
    """Keeps the server's core busy until the block ends, at the server's priority; yields the process id.

    Raises:
        LoadError: the process did not start.
    """
    command = [*cores.pin_server(), sys.executable, "-I", "-S", "-c", _LOOP]
    # Its own session: on Ctrl-C, this process ends it after the block.
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            if not process.stdout or process.stdout.readline() != b"busy\n":
                raise LoadError("the busy process beside the server did not start")
            yield process.pid
        finally:
            process.kill()
