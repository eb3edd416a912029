"""Servers as processes of their own, pinned to one core, and ended however the comparison ends."""

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
POLL_S = 0.05


@dataclass(frozen=True)
class Server:
    """A server that takes requests."""

    name: str
    """What tables call it."""
    port: int
    """Where its gRPC API listens, on loopback."""
    pid: int
    """Its process."""
    log: Path
    """What it says, for as long as it runs."""
    ca: Path | None = None
    """Certificates that its clients trust, as a PEM file; None: it serves without TLS."""

    @property
    def address(self) -> str:
        """Host and port of its gRPC API."""
        return f"127.0.0.1:{self.port}"

    def resident_kib(self) -> int:
        """Returns how much physical memory the process holds, in KiB (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])

    def cpu_s(self) -> float:
        """Returns the CPU time taken since it started, user and system, by all threads of the process and of what it
        started, such as the process in which Triton's Python backend runs."""
        return sum(map(_cpu_s, {self.pid, *_group(self.pid)}))


def _cpu_s(pid: int) -> float:
    # The clock of another process, numbered as by clock_getcpuclockid(3): /proc/PID/stat counts ticks of 10 ms.
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # It has ended.
        return 0.0


def _group(leader: int) -> Iterator[int]:
    """Yields the processes whose group has that leader."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        # One may have ended. The second field, a command's name, is in parentheses and may contain anything.
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[2]) == leader:
                yield int(path.parent.name)


@contextmanager
def running(
    name: str, command: Sequence[str], find_port: Callable[[str], int | None], env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Runs a server until the block ends.

    Its output goes to a file, so that no thread of ours takes time from the load generator to read it. `find_port` is
    given all that it said, again and again, and returns the port of its gRPC API once it takes requests.

    Raises:
        ServerError: it did not start in time; the message ends with what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            # A session of its own: Ctrl-C reaches this process alone, and the children of a server die with it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env
            )
        try:
            yield Server(name, _wait_for_port(name, process, log, find_port), process.pid, log)
            if process.poll() is not None:
                raise ServerError(f"{name} ended by itself with exit code {process.returncode}:\n{tail(log)}")
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
    raise ServerError(f"{name} was not ready after {START_TIMEOUT_S:.0f} s; it said:\n{tail(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        # What it started and did not end, such as the process in which Triton's Python backend runs.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
