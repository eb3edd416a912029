"""`make sign` with real tools: an image in a registry on loopback is signed, and its SBOM attested and verified."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# No transparency log: the test leaves no entry in a public one, and needs no internet.
NO_LOG = ["--cosign-option=--tlog-upload=false"]
CONFIG = "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{}'}}\n"
# cosign is in Debian from trixie on; .ci/run takes it from there.
TOOLS = {"cosign": "cosign", "docker-registry": "docker-registry", "skopeo": "skopeo", "umoci": "umoci"}
MISSING = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: apt install)"),
]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Runs a registry on a free port of loopback; gives its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    (tmp_path / "registry.yml").write_text(CONFIG.format(tmp_path / "registry", address))
    with subprocess.Popen(["docker-registry", "serve", tmp_path / "registry.yml"], stderr=subprocess.PIPE) as process:
        try:
            wait_for(f"http://{address}/v2/", process)
            yield address
        finally:
            process.terminate()
            process.communicate(timeout=30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.05)


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a key pair; gives the private key's file."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cosign.key"


def pushed_image(registry: str, tmp_path: Path, name: str) -> str:
    """Pushes a small image; returns its reference with its digest."""
    layout = tmp_path / name
    subprocess.run(["umoci", "init", "--layout", layout], check=True, capture_output=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:latest"], check=True, capture_output=True)
    subprocess.run(["umoci", "config", "--image", f"{layout}:latest", "--author", name], check=True)
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--digestfile", tmp_path / "digest"]
    subprocess.run([*copy, f"oci:{layout}:latest", f"docker://{registry}/{name}:1"], check=True)
    return f"{registry}/{name}@{(tmp_path / 'digest').read_text().strip()}"


def make_sign(image: str, key: Path, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.images", "sign", image, "--key", key, *more]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, env=os.environ)


def verify(kind: str, image: str, key: Path, *more: str) -> int:
    command = ["cosign", kind, "--key", key.with_suffix(".pub"), "--insecure-ignore-tlog=true", *more, image]
    return subprocess.run(command, capture_output=True).returncode


def test_a_signed_image_verifies_and_another_does_not(registry: str, key: Path, tmp_path: Path) -> None:
    signed, other = (pushed_image(registry, tmp_path, name) for name in ("signed", "other"))
    done = make_sign(signed, key, *NO_LOG)
    assert done.returncode == 0, done.stderr
    assert verify("verify", signed, key) == 0
    assert verify("verify", other, key) != 0


def test_the_sbom_is_attested_in_its_format(registry: str, key: Path, tmp_path: Path) -> None:
    image = pushed_image(registry, tmp_path, "server")
    sbom = tmp_path / "pixelserve-server.spdx.json"
    sbom.write_text(json.dumps({"spdxVersion": "SPDX-2.3", "packages": [{"name": "libc6"}]}))
    done = make_sign(image, key, "--sbom", sbom, *NO_LOG)
    assert done.returncode == 0, done.stderr
    assert verify("verify-attestation", image, key, "--type", "spdxjson") == 0
    assert verify("verify-attestation", image, key, "--type", "cyclonedx") != 0


def test_a_failure_of_cosign_is_shown(key: Path) -> None:
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unanswered.getsockname()[1]}"
        done = make_sign(f"{address}/server@sha256:{'0' * 64}", key, *NO_LOG)
    assert done.returncode == 1
    assert "`cosign sign" in done.stderr
    assert "connection refused" in done.stderr
