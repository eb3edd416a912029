"""The chart's Envoy, as the chart configures it, in front of a real server."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import ROOT, pick, pod, program, render

from pixelserve import Client

pytestmark = pytest.mark.slow
PICTURE = ROOT / "examples" / "mnist" / "digit-7-test-00000.png"


class Envoy:
    """Envoy on free ports of loopback, in front of one server."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self._manifests = render({"envoy": {"enabled": True}, "server": {"settleSeconds": 1}})
        self.ports = {"8001": free_port(), "9901": free_port(), "9902": free_port()}
        self._file = folder / "envoy.yaml"
        self._file.write_text(self._configuration(upstream))

    def _configuration(self, upstream: str) -> str:
        text = pick(self._manifests, "ConfigMap", "digits-pixelserve-envoy")["data"]["envoy.yaml"]
        host, _, port = upstream.rpartition(":")
        pods = "address: digits-pixelserve-headless.models.svc.cluster.local, port_value: 8001"
        assert pods in text
        text = text.replace(pods, f"address: {host}, port_value: {port}").replace("0.0.0.0", "127.0.0.1")
        for name, local in self.ports.items():
            text = text.replace(f"port_value: {name}", f"port_value: {local}")
        yaml.safe_load(text)
        return text

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports['8001']}"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Runs it with the arguments of the chart."""
        (container,) = pod(self._manifests, "digits-pixelserve-envoy")["containers"]
        arguments = [str(self._file) if each == "/etc/envoy/envoy.yaml" else each for each in container["args"]]
        command = [program(container["command"][0]), *arguments, "--log-level", "error"]
        with subprocess.Popen(command) as process:
            try:
                yield process
            finally:
                process.kill()

    def drain(self) -> subprocess.CompletedProcess[bytes]:
        """Runs what the kubelet runs before it stops Envoy, but does not wait afterwards."""
        (container,) = pod(self._manifests, "digits-pixelserve-envoy")["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        script = command[-1].replace("9901", str(self.ports["9901"])).replace("sleep", "cat <&3; :")
        return subprocess.run([*command[:-1], script], capture_output=True, timeout=30, check=False)

    def accepts_connections(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.ports["8001"])) == 0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def envoy(server: Any, tmp_path: Path) -> Envoy:
    return Envoy(server.grpc, tmp_path)


def test_envoy_asks_servers_for_their_health_and_passes_calls_on(envoy: Envoy) -> None:
    with envoy.running(), Client(envoy.address, timeout_s=30) as client:
        assert client.classify(PICTURE, model="mnist-cnn").label == "7"


def test_envoy_takes_no_new_connections_once_it_was_told_to_go(envoy: Envoy, eventually: Callable[..., None]) -> None:
    """Timeline: 1. a client has a connection; 2. the hook runs; 3. its next calls are answered; 4. the port closes,
    and Envoy still runs."""
    with envoy.running() as process, Client(envoy.address, timeout_s=30) as client:
        client.classify(PICTURE, model="mnist-cnn")
        told = envoy.drain()
        assert (told.returncode, told.stdout.splitlines()[0]) == (0, b"HTTP/1.1 200 OK"), told
        assert client.classify(PICTURE, model="mnist-cnn").label == "7"
        eventually(lambda: not envoy.accepts_connections(), timeout_s=30)
        assert process.poll() is None
