"""The chart's Envoy configuration, in front of a real server."""

import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helm_chart import ROOT, pick, pod, program, render

from pixelserve import Client
from pixelserve.client import Tls, Unavailable

pytestmark = pytest.mark.slow
PICTURE = ROOT / "examples" / "mnist" / "digit-7-test-00000.png"


class Envoy:
    """Envoy on free ports of loopback, in front of one server. A pod's folders are in a folder of the test."""

    def __init__(self, upstream: str, folder: Path, **values: Any) -> None:
        self._manifests = render({"envoy": {"enabled": True}, "server": {"settleSeconds": 1}, **values})
        self.ports = {"8001": free_port(), "9901": free_port(), "9902": free_port()}
        self._file = folder / "envoy.yaml"
        for name, text in pick(self._manifests, "ConfigMap", "digits-pixelserve-envoy")["data"].items():
            local = text.replace("/etc/envoy", str(folder)).replace("/etc/pixelserve", str(folder))
            (folder / name).write_text(local)
        self._file.write_text(self._at_local_addresses(self._file.read_text(), upstream))

    def _at_local_addresses(self, text: str, upstream: str) -> str:
        host, _, port = upstream.rpartition(":")
        pods = "address: digits-pixelserve-headless.models.svc.cluster.local, port_value: 8001"
        assert pods in text
        text = text.replace(pods, f"address: {host}, port_value: {port}").replace("0.0.0.0", "127.0.0.1")
        for name, local in self.ports.items():
            text = text.replace(f"port_value: {name}", f"port_value: {local}")
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
                self._wait_until_ready(process)
                yield process
            finally:
                process.kill()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Asks as the kubelet does, which sends no calls before."""
        url = f"http://127.0.0.1:{self.ports['9902']}/ready"
        for _ in range(300):
            assert process.poll() is None, "Envoy has ended"
            with suppress(OSError), urllib.request.urlopen(url, timeout=5):
                return
            time.sleep(0.1)
        pytest.fail("Envoy is not ready")

    def drain(self) -> subprocess.CompletedProcess[bytes]:
        """Runs the preStop hook of Envoy, without waiting afterwards."""
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


class Encrypted:
    """A server and the chart's Envoy, both with TLS by one Secret, whose certificate has these names."""

    def __init__(self, folder: Path, authority: Any, start_server: Callable[..., Any], hosts: list[str]) -> None:
        self._folder, self._authority = folder, authority
        self.ca = str(authority.path)
        self.write(hosts)
        files = ("--tls-cert", folder / "tls" / "tls.crt", "--tls-key", folder / "tls" / "tls.key")
        server = start_server(ROOT / "models", *map(str, files))
        self.envoy = Envoy(server.grpc, folder, tls={"existingSecret": "certificate"})

    def write(self, hosts: list[str]) -> None:
        """Writes the files of the Secret as the kubelet does: into a new folder, to which a link then changes."""
        issued = self._authority.issue("shared", hosts=["127.0.0.1", *hosts])
        mount, new = self._folder / "tls", Path(tempfile.mkdtemp(dir=self._folder))
        mount.mkdir(exist_ok=True)
        for name, content in (("tls.crt", issued.pem), ("tls.key", issued.key_pem), ("ca.crt", self._authority.pem)):
            (new / name).write_bytes(content)
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(Path("..data") / name)
        (mount / "..new").symlink_to(new)
        (mount / "..new").rename(mount / "..data")


def test_envoy_speaks_tls_on_both_sides(
    tmp_path: Path, certificate_authority: Any, start_server: Callable[..., Any]
) -> None:
    both = Encrypted(tmp_path, certificate_authority, start_server, ["digits-pixelserve.models.svc"])
    with both.envoy.running(), Client(both.envoy.address, timeout_s=30, tls=Tls(ca=both.ca)) as client:
        assert client.classify(PICTURE, model="mnist-cnn").label == "7"


def test_envoy_takes_a_renewed_certificate(
    tmp_path: Path, certificate_authority: Any, start_server: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    both = Encrypted(tmp_path, certificate_authority, start_server, ["digits-pixelserve.models.svc"])
    address = ("127.0.0.1", both.envoy.ports["8001"])
    with both.envoy.running():
        before = ssl.get_server_certificate(address)
        both.write(["digits-pixelserve.models.svc"])
        eventually(lambda: ssl.get_server_certificate(address) != before, timeout_s=30)
        with Client(both.envoy.address, timeout_s=30, tls=Tls(ca=both.ca)) as client:
            assert client.classify(PICTURE, model="mnist-cnn").label == "7"


def test_envoy_refuses_servers_whose_certificate_has_another_name(
    tmp_path: Path, certificate_authority: Any, start_server: Callable[..., Any]
) -> None:
    both = Encrypted(tmp_path, certificate_authority, start_server, ["other.models.svc"])
    with (
        both.envoy.running(),
        Client(both.envoy.address, timeout_s=3, tls=Tls(ca=both.ca)) as client,
        pytest.raises(Unavailable),
    ):
        client.classify(PICTURE, model="mnist-cnn")


def test_envoy_accepts_no_new_connections_after_its_stop_hook(envoy: Envoy, eventually: Callable[..., None]) -> None:
    """Timeline: 1. a client has a connection; 2. the hook runs; 3. its next calls are answered; 4. the port closes,
    and Envoy still runs."""
    with envoy.running() as process, Client(envoy.address, timeout_s=30) as client:
        client.classify(PICTURE, model="mnist-cnn")
        told = envoy.drain()
        assert (told.returncode, told.stdout.splitlines()[0]) == (0, b"HTTP/1.1 200 OK"), told
        assert client.classify(PICTURE, model="mnist-cnn").label == "7"
        eventually(lambda: not envoy.accepts_connections(), timeout_s=30)
        assert process.poll() is None
