"""A container of the server, restricted like the chart's pods: read-only root, no capabilities or network, limits."""

import json
import subprocess
import time
import uuid
from types import TracebackType
from typing import Any, Self

from .engine import ImageError, run

MEMORY_MIB = 512
CPUS = 1
_START_TIMEOUT_S = 120.0
# runc, because crun fails on hybrid cgroups; cgroupfs, because containers have no systemd.
PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
# The limits must not exceed this process's, and podman's defaults do.
_LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--pids-limit", "256")
_LOCKED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


class Container:
    """Runs the server's image until the block ends."""

    def __init__(self, image: str) -> None:
        """`image` starts on entering the block."""
        self._image = image
        self._name = f"pixelserve-check-{uuid.uuid4().hex[:12]}"
        self.start_s = 0.0
        """Seconds from the command to a ready server."""

    def __enter__(self) -> Self:
        start = time.monotonic()
        size = f"{MEMORY_MIB}m"
        limits = [*_LIMITS, "--memory", size, "--memory-swap", size, "--cpus", str(CPUS)]
        # Without a network; processes in the container still reach the server on loopback.
        options = ["--detach", "--name", self._name, "--network", "none", *_LOCKED, *limits]
        try:
            run([*PODMAN, "run", *options, self._image, "serve", "--insecure"])
            self._wait_until_serving(start + _START_TIMEOUT_S)
        except BaseException:
            self._remove()
            raise
        self.start_s = time.monotonic() - start
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside the container."""
        return subprocess.run([*PODMAN, "exec", self._name, *command], capture_output=True, text=True)

    def python(self, code: str) -> str:
        """Runs Python code inside the container; returns its output, or the last line of its error."""
        done = self.execute("python", "-c", code)
        return done.stdout.strip() if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]

    def healthcheck(self) -> int:
        """Runs the image's HEALTHCHECK; returns its exit code."""
        return subprocess.run([*PODMAN, "healthcheck", "run", self._name], capture_output=True).returncode

    def stop(self) -> tuple[int, float]:
        """Sends SIGTERM; returns the server's exit code and the seconds until then."""
        start = time.monotonic()
        run([*PODMAN, "stop", "--time", "60", self._name])
        state = self._inspect()["State"]
        return int(state["ExitCode"]), time.monotonic() - start

    def log(self) -> list[dict[str, Any]]:
        """Returns the server's log, one dictionary per line."""
        done = subprocess.run([*PODMAN, "logs", self._name], capture_output=True, text=True)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]

    def _wait_until_serving(self, end: float) -> None:
        while not any(line["event"] == "serving" for line in self.log()):
            if self._inspect()["State"]["Status"] != "running" or time.monotonic() > end:
                said = subprocess.run([*PODMAN, "logs", self._name], capture_output=True, text=True)
                raise ImageError(f"the server did not start in its container; its output:\n{said.stdout}{said.stderr}")
            time.sleep(0.2)

    def _inspect(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(run([*PODMAN, "inspect", self._name]))
        return found[0]

    def _remove(self) -> None:
        subprocess.run([*PODMAN, "rm", "--force", "--time", "0", self._name], capture_output=True)
