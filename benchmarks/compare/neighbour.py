"""Another process that never rests on the server's core, as in a pod whose CPUs others share."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .cores import Cores
from .errors import LoadError

# Ends by itself if this process is killed. One line says that the loop has begun.
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
    """Keeps the server's core busy until the block ends, at the priority that the server has; gives the process's id.

    Raises:
        LoadError: the process did not start.
    """
    command = [*cores.pin_server(), sys.executable, "-I", "-S", "-c", _LOOP]
    # A session of its own: Ctrl-C ends it through this process, after the block.
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            if not process.stdout or process.stdout.readline() != b"busy\n":
                raise LoadError("the busy process beside the server did not start")
            yield process.pid
        finally:
            process.kill()
