"""Runs servers as processes pinned to one core, which always end with the comparison."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ServerError, tail

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.01


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    """The name in tables."""
    port: int
    """The port of its gRPC API, on loopback."""
    pid: int
    """Its process."""
    log: Path
    """The file with its output."""
    ca: Path | None = None
    """PEM file of the certificates for clients to trust; None: no TLS."""

    @property
    def address(self) -> str:
        """The host and port of its gRPC API."""
        return f"127.0.0.1:{self.port}"

    def resident_kib(self) -> int:
        """Returns the process's resident memory in KiB (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])

    def cpu_s(self) -> float:
        """Returns the CPU time since its start, user and system, of the process and its children, such as that of
        Triton's Python backend."""
        return sum(map(_cpu_s, {self.pid, *_group(self.pid)}))


def _cpu_s(pid: int) -> float:
    # Another process's clock, numbered like clock_getcpuclockid(3): /proc/PID/stat counts ticks of 10 ms.
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # It has exited.
        return 0.0


def _group(leader: int) -> Iterator[int]:
    """Yields the processes in the group with this leader."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        # A process may have exited. The second field, the command's name, is in parentheses and may contain anything.
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[2]) == leader:
                yield int(path.parent.name)


@contextmanager
def running(
    name: str, command: Sequence[str], find_port: Callable[[str], int | None], env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Runs a server until the block ends.

    Its output goes to a file, so no thread takes time from the load generator to read it. `find_port` repeatedly
    receives all output, and returns the port of the gRPC API once the server accepts requests.

    Raises:
        ServerError: it did not start in time; the message ends with its last output.
    """
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            # Its own session: Ctrl-C reaches only this process, and a server's children die with it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env
            )
        try:
            yield Server(name, _wait_for_port(name, process, log, find_port), process.pid, log)
            if process.poll() is not None:
                raise ServerError(f"{name} exited with exit code {process.returncode}:\n{tail(log)}")
        finally:
            _end(process)


def _wait_for_port(
    name: str, process: subprocess.Popen[bytes], log: Path, find_port: Callable[[str], int | None]
) -> int:
    end_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end_s:
        if (port := find_port(log.read_text(errors="replace"))) is not None:
            return port
        if process.poll() is not None:
            raise ServerError(f"{name} did not start, exit code {process.returncode}; it said:\n{tail(log)}")
        time.sleep(POLL_S)
    raise ServerError(f"{name} was not ready after {START_TIMEOUT_S:.0f} s; its output:\n{tail(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        # Its remaining children, such as the process of Triton's Python backend.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
