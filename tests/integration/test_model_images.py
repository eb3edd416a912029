"""Model images with other programs: a real registry, and the unpacking and mounting of nodes."""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oci import writing
from pixelserve.oip import inference_pb2 as pb
from pixelserve.pull.mirror import Wanted, mirror

MODELS = Path(__file__).resolve().parents[2] / "models"
MODEL = MODELS / "mnist-cnn"
# The password `secret`, by bcrypt with few rounds.
HTPASSWD = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
WAIT_S = 30

pytestmark = pytest.mark.slow


def needs(*tools: str) -> None:
    """Skips a test where the Debian package of a tool, which is called the same, is not installed."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"needs the Debian package {missing[0]}")


def run(*command: object, **options: Any) -> str:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(to: str) -> writing.Written:
    return writing.write(MODELS, "mnist-cnn", 1, to, on_wait=lambda: None)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with one image, tagged 1."""
    write(f"oci:{tmp_path / 'images'}:1")
    return tmp_path / "images"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Docker's registry, on a free port of loopback; it asks for a password, which the environment has."""
    needs("docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "htpasswd").write_text(f"deploy:{HTPASSWD}\n")
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{tmp_path / 'registry'}'}}}}\n"
        f"auth: {{htpasswd: {{realm: test, path: '{tmp_path / 'htpasswd'}'}}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", tmp_path / "registry.yml"], stdout=log, stderr=log)
    try:
        host, _, port = address.partition(":")
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "registry.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(WAIT_S)


@pytest.fixture
def logged_in(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The registry's address; the password is where docker login writes it."""
    auth = base64.b64encode(b"deploy:secret").decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    return registry


def test_a_version_goes_through_a_registry(logged_in: str, tmp_path: Path) -> None:
    written = write(f"docker://{logged_in}/team/mnist-cnn:1")
    assert write(f"docker://{logged_in}/team/mnist-cnn:again").digest == written.digest
    mirror(Wanted(f"oci://{logged_in}/team/mnist-cnn:1", tmp_path / "target"))
    assert contents(tmp_path / "target" / "mnist-cnn") == contents(MODEL)
    assert mirror(Wanted(written.pinned, tmp_path / "target")).plan.versions == {1: "unchanged"}


def test_other_programs_copy_it_under_its_digest(logged_in: str, layout: Path, tmp_path: Path) -> None:
    needs("skopeo")
    digest = write(f"docker://{logged_in}/a:1").digest
    whole = ["--all", "--preserve-digests", "--dest-tls-verify=false", "--src-tls-verify=false"]
    run("skopeo", "copy", *whole, f"oci:{layout}:1", f"docker://{logged_in}/b:1")
    run("skopeo", "copy", *whole, f"docker://{logged_in}/a:1", f"oci:{tmp_path / 'copy'}:1")
    seen = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{logged_in}/b:1"))
    assert seen["Digest"] == digest
    assert contents(tmp_path / "copy")["blobs/sha256/" + digest.partition(":")[2]]
    mirror(Wanted(f"oci:{tmp_path / 'copy'}@{digest}", tmp_path / "target"))


def test_an_image_that_another_program_has_packed_is_pulled(logged_in: str, layout: Path, tmp_path: Path) -> None:
    """skopeo compresses layers that it pushes, and gives the image another digest by it."""
    needs("skopeo")
    run("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{logged_in}/b:1")
    mirror(Wanted(f"oci://{logged_in}/b:1", tmp_path / "target"))
    assert contents(tmp_path / "target" / "mnist-cnn") == contents(MODEL)


def test_a_node_unpacks_a_repository_that_the_server_serves(
    layout: Path, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    needs("skopeo", "umoci")
    run("skopeo", "copy", f"oci:{layout}:1", f"oci:{tmp_path / 'one'}:1")
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'one'}:1", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    assert contents(root / "models") == {f"mnist-cnn/{name}": data for name, data in contents(MODEL).items()}
    server = start_server(root / "models")
    models = server.stub().RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=WAIT_S).models
    assert [(model.name, model.version) for model in models] == [("mnist-cnn", "1")]
    assert server.stop() == 0


def test_podman_mounts_it(layout: Path, tmp_path: Path) -> None:
    needs("podman")
    if os.geteuid() != 0:
        pytest.skip("podman mounts images for root only")
    # podman refuses a longer path than 50 characters here.
    with tempfile.TemporaryDirectory(prefix="podman-") as short:
        podman = ["podman", "--root", tmp_path / "root", "--runroot", short, "--storage-driver", "vfs"]
        image = run(*podman, "pull", "--quiet", f"oci:{layout}:1").strip()
        mounted = Path(run(*podman, "image", "mount", image).strip())
        try:
            assert contents(mounted / "models" / "mnist-cnn") == contents(MODEL)
            listed = json.loads(run(*podman, "image", "inspect", image))
            assert listed[0]["Annotations"]["pixelserve.model"] == "mnist-cnn"
        finally:
            run(*podman, "image", "unmount", "--all")
