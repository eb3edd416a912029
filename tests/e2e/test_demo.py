"""The demo, a newcomer's first impression."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The folder of examples that each committed model is shown.
PICTURES = {"mnist-cnn": "mnist", "mnist": "mnist", "fashion-mnist": "fashion-mnist", "cifar10": "cifar10"}


@pytest.mark.slow
def test_the_demo_shows_pictures_and_figures_and_leaves_nothing_running(root: Path) -> None:
    # An environment variable finds the demo's descendants, even after they were reparented.
    marker = f"PIXELSERVE_TEST_MARKER={os.getpid()}"
    env = {**os.environ, "PIXELSERVE_TEST_MARKER": str(os.getpid())}
    done = subprocess.run(
        [sys.executable, root / "examples" / "demo.py"], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for model in (root / "models").iterdir():
        assert f"model {model.name} " in done.stdout
        for picture in (root / "examples" / PICTURES[model.name]).glob("*.png"):
            assert picture.stem in done.stdout
    for figure in (
        "images/s",
        "p50",
        "p99",
        "batches of images",
        "latency",
        "in the queue",
        "docs/metrics.md",
        "http://127.0.0.1:8000/",
    ):
        assert figure in done.stdout
    left = [entry.name for entry in Path("/proc").glob("[0-9]*") if marker in environment_of(entry)]
    assert left == []


@pytest.mark.slow
def test_the_saved_picture_has_the_output_and_loads_nothing(root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    command = [sys.executable, root / "examples" / "demo.py", "--svg", picture]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    drawn = picture.read_text()
    assert "digit-7-test-00000" in drawn
    assert "url(http" not in drawn.replace('"', "")


def environment_of(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        # It has ended, or is a kernel's.
        return ""


@pytest.mark.slow
def test_ctrl_c_stops_a_demo_that_stays_and_its_server(root: Path) -> None:
    """Timeline: 1. the server is up; 2. Ctrl-C, which a terminal sends to the whole process group; 3. the server is
    drained, and the exit code is 0."""
    command = [sys.executable, root / "examples" / "demo.py", "--stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        said: list[str] = []
        for line in demo.stdout:
            said.append(line)
            if "Stop with Ctrl-C" in line:
                break
        assert re.fullmatch(r"Draw a digit yourself: http://127\.0\.0\.1:\d+/\n", said[-2])
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(60) == 0
