"""ONNX Runtime's telemetry, which stores a device id in the home folder, is off in every command that loads it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Each starts a process.
pytestmark = pytest.mark.slow

TIMEOUT_S = 120
# With any of these ONNX Runtime takes itself to be tested, and leaves its telemetry off.
CI_VARIABLES = (
    *("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID"),
    *("BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty home of all processes to come, whose environment has nothing that switches the telemetry off."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("ORT_DISABLE_TELEMETRY", *CI_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return folder


def left_in(home: Path) -> list[str]:
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and "onnxruntime" in str(path)]


def test_onnx_runtime_alone_would_leave_its_files(home: Path, root: Path) -> None:
    """Otherwise the tests below could not fail."""
    model = root / "models" / "mnist-cnn" / "1" / "model.onnx"
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(model)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT_S)
    assert left_in(home)


def test_a_server_leaves_nothing(home: Path, start_server: Callable[..., Any], doubler_repository: Path) -> None:
    assert start_server(doubler_repository).stop() == 0
    assert left_in(home) == []


@pytest.mark.parametrize("command", ["doctor", "export", "pull"])
def test_a_command_that_loads_models_leaves_nothing(
    home: Path, doubler_repository: Path, tmp_path: Path, command: str
) -> None:
    model = doubler_repository / "doubler" / "1" / "model.onnx"
    arguments = {
        "doctor": ["doctor", doubler_repository],
        "export": ["export", model, "--name", "copied", "--to", tmp_path / "exported"],
        "pull": ["models", "pull", model.parent.parent, "--model-repository", tmp_path / "pulled", "--check"],
    }[command]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pixelserve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert left_in(home) == []
