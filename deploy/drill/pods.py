"""A server process, managed like a container by the kubelet."""

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from pixelserve.client.channel import CHECK

from .topology import Place

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
_PROBE_TIMEOUT_S = 1.0
# A grpc.health.v1.HealthCheckResponse with status SERVING.
_SERVING = b"\x08\x01"


@dataclass(frozen=True)
class Template:
    """The varying part of a pod template."""

    repository: Path
    """The model repository."""
    flags: tuple[str, ...] = ()
    """Additional flags of `pixelserve serve`."""
    ca: Path | None = None
    """CA of the server's certificate; None: no TLS."""


class Pod:
    """A server at its own address, which it keeps after a crash."""

    def __init__(self, name: str, place: Place, template: Template, log: Path) -> None:
        self.name = name
        self.address = place.address
        self.template = template
        self._place = place
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        """Number of starts."""
        self.has_been_ready = False
        """Whether its readiness probe has ever succeeded."""

    def start(self) -> None:
        command = [*self._place.prefix, sys.executable, "-m", "pixelserve", "serve", "--insecure"]
        command += ["--host", self.address, "--model-repository", str(self.template.repository)]
        for name, port in (("http", HTTP_PORT), ("grpc", GRPC_PORT), ("metrics", METRICS_PORT)):
            command += [f"--{name}-port", str(port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self.template.flags], stderr=log, stdout=log)
        self.starts += 1

    @property
    def code(self) -> int | None:
        """The exit code; None if it is running or was never started."""
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Waits for the exit and returns the exit code; kills it after `timeout_s`."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def is_ready(self) -> bool:
        """Readiness probe: gRPC health; with TLS, which the kubelet's gRPC probe lacks, the metrics port's /ready."""
        if self.template.ca is not None:
            return self._answers("/ready")
        # Like the kubelet: one connection per probe.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        with grpc.insecure_channel(f"{self.address}:{GRPC_PORT}", options) as channel, suppress(grpc.RpcError):
            check = channel.unary_unary(CHECK, request_serializer=bytes, response_deserializer=bytes)
            return check(b"", timeout=_PROBE_TIMEOUT_S) == _SERVING
        return False

    def is_live(self) -> bool:
        """Liveness probe: /live of the metrics port."""
        return self._answers("/live")

    def computed(self) -> int:
        """Returns the number of requests that its models have answered."""
        with urllib.request.urlopen(f"http://{self.address}:{METRICS_PORT}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("nv_inference_request_success{"))

    def log_tail(self) -> str:
        """Returns the last lines of its log."""
        return os.linesep.join(self._log.read_text(errors="replace").splitlines()[-5:]) if self._log.exists() else ""

    def _answers(self, path: str) -> bool:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}:{METRICS_PORT}{path}", timeout=_PROBE_TIMEOUT_S) as answer,
        ):
            return bool(answer.status == 200)
        return False
