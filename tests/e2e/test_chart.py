"""A server with the chart's environment, and the chart's helm tests against it."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helm_chart import ROOT, environment, pick, render, server

if TYPE_CHECKING:
    from certificates import CertificateAuthority

pytestmark = pytest.mark.slow


class Pod:
    """A folder for each of a pod's mounts, and a server whose environment is the pod's."""

    def __init__(self, manifests: list[dict[str, Any]], folder: Path, start: Callable[..., Any]) -> None:
        self._manifests, self.folder = manifests, folder
        self.server: Any = None
        secret = pick(manifests, "Secret", "digits-pixelserve-tokens")["stringData"]
        self.tokens = pick(manifests, "Secret", "digits-pixelserve-client-tokens")["stringData"]
        (folder / "tokens").mkdir()
        (folder / "tokens" / "tokens").write_text(secret["tokens"])
        job = pick(manifests, "Job", "digits-pixelserve-test-classify")["spec"]["template"]["spec"]
        (token,) = job["volumes"][0]["projected"]["sources"][0]["secret"]["items"]
        (folder / token["path"]).write_text(self.tokens[token["key"]])
        given = {name: self._local(value) for name, value in environment(manifests).items()}
        self.server = start(ROOT / "models", env=given)

    def _local(self, value: str) -> str:
        """Exchanges paths of the pod, and the Service's address."""
        places = {"/etc/pixelserve": str(self.folder), "/etc/client": str(self.folder), "/opt/pixelserve": str(ROOT)}
        if self.server is not None:
            places["digits-pixelserve.models.svc:8001"] = f"localhost:{self.server.grpc.rpartition(':')[2]}"
        for place, local in places.items():
            value = value.replace(place, local)
        return value

    def helm_test(self, name: str) -> subprocess.CompletedProcess[str]:
        """Runs the command of a helm test."""
        job = pick(self._manifests, "Job", f"digits-pixelserve-test-{name}")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        program, *arguments = container.get("command", ["pixelserve", *container.get("args", [])])
        programs = {"python": [sys.executable], "pixelserve": [sys.executable, "-m", "pixelserve"]}
        command = [*programs[program], *map(self._local, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def plain_pod(tmp_path: Path, start_server: Callable[..., Any]) -> Pod:
    return Pod(render(), tmp_path, start_server)


@pytest.fixture
def encrypted_pod(
    tmp_path: Path, start_server: Callable[..., Any], certificate_authority: "CertificateAuthority"
) -> Pod:
    issued = certificate_authority.issue("chart")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "tls.crt").write_bytes(issued.pem)
    (tmp_path / "tls" / "tls.key").write_bytes(issued.key_pem)
    (tmp_path / "ca.crt").write_bytes(certificate_authority.pem)
    return Pod(render({"tls": {"existingSecret": "certificate"}}), tmp_path, start_server)


@pytest.mark.parametrize("kind", ["plain_pod", "encrypted_pod"])
def test_helm_tests_pass(kind: str, request: pytest.FixtureRequest) -> None:
    pod: Pod = request.getfixturevalue(kind)
    assert pod.server.fields["tls"] == ("on" if kind == "encrypted_pod" else "off")
    for name, output in (("health", "SERVING"), ("classify", "10 pictures, 0 wrong")):
        done = pod.helm_test(name)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, output), done.stderr


def test_helm_tests_fail_with_a_token_that_the_server_does_not_know(plain_pod: Pod) -> None:
    (plain_pod.folder / "token").write_text("ps_" + "x" * 43)
    assert plain_pod.helm_test("classify").returncode != 0


def test_helm_tests_fail_with_a_model_that_is_wrong(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    pod = Pod(render({"tests": {"model": "fashion-mnist"}}), tmp_path, start_server)
    done = pod.helm_test("classify")
    assert done.returncode == 1
    assert "digit-7-test-00000.png: " in done.stdout


@pytest.mark.parametrize("kind", ["plain_pod", "encrypted_pod"])
def test_probes_and_prometheus_reach_the_metrics_port_over_plain_http(
    kind: str, request: pytest.FixtureRequest
) -> None:
    pod: Pod = request.getfixturevalue(kind)
    container = server(render())
    base = pod.server.metrics.removesuffix("/metrics")
    for probe in ("startupProbe", "livenessProbe"):
        with urllib.request.urlopen(base + container[probe]["httpGet"]["path"], timeout=10) as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(pod.server.metrics, timeout=10)
    asked = urllib.request.Request(pod.server.metrics, headers={"Authorization": f"Bearer {pod.tokens['observe']}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert b"pixelserve_queue_duration_seconds_sum" in answer.read()
