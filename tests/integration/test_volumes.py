"""Repositories on volumes mounted by Kubernetes."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.pull.mirror import Wanted, mirror

MODELS = Path(__file__).resolve().parents[2] / "models"
WAIT_S = 30

pytestmark = pytest.mark.slow


def put(volume: Path, number: int, version: int) -> None:
    """Has the volume show one version, as the kubelet does: a new folder, and a link to it that is exchanged."""
    data = volume / f"..2026_11_29_10_00_00.{number}"
    shutil.copytree(MODELS / "mnist-cnn" / "1", data / "mnist-cnn" / str(version))
    for name in ("config.pbtxt", "labels.txt"):
        shutil.copy(MODELS / "mnist-cnn" / name, data / "mnist-cnn" / name)
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").replace(volume / "..data")
    if not (volume / "mnist-cnn").is_symlink():
        (volume / "mnist-cnn").symlink_to("..data/mnist-cnn")
    for old in volume.glob("..2026*"):
        if old != data:
            shutil.rmtree(old)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume of a ConfigMap, a Secret or a CSI driver, with a model in it."""
    folder = tmp_path / "volume"
    folder.mkdir()
    put(folder, 1, 1)
    return folder


def versions(server: Any) -> list[tuple[str, str]]:
    models = server.stub().RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=WAIT_S).models
    return [(model.name, model.version) for model in models]


def test_a_mounted_folder_of_links_is_served_and_followed(
    volume: Path, start_server: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    server = start_server(volume, "--model-control-mode", "poll", "--repository-poll-s", "0.1")
    assert versions(server) == [("mnist-cnn", "1")]
    put(volume, 2, 2)
    eventually(lambda: versions(server) == [("mnist-cnn", "2")], timeout_s=WAIT_S)
    assert not [event for event in server.events() if event["event"] in ("folder passed over", "model failed to load")]
    assert server.stop() == 0


def test_doctor_does_not_warn_about_the_links_of_a_mount(volume: Path) -> None:
    command = [sys.executable, "-m", "pixelserve", "doctor", "--quick", str(volume)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "1 of 1 model would serve; 0 errors, 0 warnings")


def test_a_model_is_pulled_from_it(volume: Path, tmp_path: Path) -> None:
    mirror(Wanted(str(volume / "mnist-cnn"), tmp_path / "target"))
    found = sorted(str(path.relative_to(tmp_path / "target")) for path in (tmp_path / "target").glob("*/*"))
    assert found == ["mnist-cnn/1", "mnist-cnn/config.pbtxt", "mnist-cnn/labels.txt"]
