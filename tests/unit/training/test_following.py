"""What follows a run: the page of --watch and the log of --mlflow."""

import json
import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve_training.errors import MissingLibraryError, WriteError
from pixelserve_training.progress import TrainingProgress
from pixelserve_training.running import live, runs
from pixelserve_training.running.checkpoint import State
from pixelserve_training.running.live import LivePage
from pixelserve_training.running.tracking import Tracking

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer; MLflow's libraries have their own old ways.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING, "ignore::DeprecationWarning")]

SETTINGS = runs.Settings(recipe="small", seed=0, dataset="MNIST", dataset_sha256="ab", learner={"epochs": 3})
FIRST = State(settings=SETTINGS, request={}, epochs=1, history={"loss": [0.5]})
SECOND = FIRST.model_copy(update={"epochs": 2, "history": {"loss": [0.5, 0.25]}})


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was asked to open."""
    addresses: list[str] = []
    monkeypatch.setenv("BROWSER", "a browser")
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def test_the_page_grows_reloads_itself_and_ends_at_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.setattr(live, "_PAUSE_S", 0.0)
    page = LivePage(tmp_path / "a run")
    page.begin(State(settings=SETTINGS, request={}))
    assert opened == [page.path.as_uri()]
    assert "<img" not in page.path.read_text()
    page.follow(SECOND)
    shown = page.path.read_text()
    assert '<meta http-equiv="refresh" content="5">' in shown
    assert "The run has finished epoch 2 of 3." in shown
    assert "Last of 2 epochs: loss 0.25." in shown
    assert "default-src &#39;none&#39;" in shown or "default-src 'none'" in shown
    page.finish(SECOND)
    assert 'content="0; url=a%20run/report.html"' in page.path.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["a run.watch.html"]


def test_epochs_that_follow_at_once_share_a_picture(tmp_path: Path) -> None:
    page = LivePage(tmp_path / "run")
    page.begin(FIRST)
    page.follow(SECOND)
    assert "loss 0.25" not in page.path.read_text()
    page.stop(SECOND)
    assert "finished epoch 2 of 3, and then stopped." in page.path.read_text()
    assert "refresh" not in page.path.read_text()


def test_without_a_browser_the_path_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    LivePage(tmp_path / "run").begin(FIRST)
    assert opened == []
    assert f"for you to open in a browser: {tmp_path}/run.watch.html" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_refused_before_training_and_missed_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = LivePage(tmp_path / "file" / "run")
    (tmp_path / "file").touch()
    page.stop(SECOND)
    assert "warning: " in capsys.readouterr().err
    with pytest.raises(WriteError, match=r"watch.html cannot be written: .*; make room, or train without --watch"):
        page.begin(FIRST)


@pytest.mark.usefixtures("small_in_zoo")
def test_a_run_can_be_watched_and_logged(
    pixelserve: Command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. the second epoch is under way; 2. the signal ends page and log; 3. --resume alone continues both."""
    monkeypatch.chdir(tmp_path)
    original = TrainingProgress.end_step

    def interrupt(self: TrainingProgress, epoch: int, step: int, figures: Any) -> None:
        if epoch == 1:
            monkeypatch.setattr(TrainingProgress, "end_step", original)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingProgress, "end_step", interrupt)
    arguments = ("train", "small", "--data-dir", data_dir, "--run-dir", "run")
    assert pixelserve(*arguments, "--epochs", 2, "--watch", "--mlflow", "local").exit_code == 130
    assert "epoch 1 of 2, and then stopped" in Path("run.watch.html").read_text()
    resumed = pixelserve(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.err
    assert "url=run/report.html" in Path("run.watch.html").read_text()

    import mlflow

    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("pixelserve")
    finished, killed = client.search_runs([experiment.experiment_id])
    assert [each.info.status for each in (finished, killed)] == ["FINISHED", "KILLED"]
    history = json.loads(Path("run/history.json").read_text())
    logged = client.get_metric_history(finished.info.run_id, "loss")
    assert [(each.step, each.value) for each in logged] == [(1, history["loss"][0]), (2, history["loss"][1])]
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert finished.data.metrics["training/accuracy"] == metrics["training"]["metrics"]["accuracy"]
    assert finished.data.params["learner.epochs"] == "2"
    assert [each.path for each in client.list_artifacts(finished.info.run_id)] == ["report.html"]


def test_nothing_leaves_the_machine_for_a_local_store(tmp_path: Path) -> None:
    """MLflow reports its use to its makers unless it is told not to, or finds itself in a test or in CI."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.json").write_text('{"test": {"metrics": {"accuracy": 0.5}}}')
    (run / "report.html").touch()
    script = f"""
import socket, sys
from pathlib import Path
reached = []
def refuse(*arguments, **options):
    reached.append(arguments[:2])
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
from pixelserve_training.running.checkpoint import State
from pixelserve_training.running.tracking import Tracking
state = State.model_validate_json({FIRST.model_dump_json()!r})
tracking = Tracking(Path({str(run)!r}), "local")
tracking.begin(state)
tracking.follow(state)
tracking.finish(state)
import threading
others = [each for each in threading.enumerate() if each is not threading.main_thread()]
for each in others:
    each.join(5)
sys.exit(repr(reached) if reached else 0)
"""
    environment = {name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"--mlflow: nonsense://x cannot be written .*; give another store"):
        Tracking(tmp_path / "run", "nonsense://x").begin(FIRST)


def test_a_store_that_fails_in_mid_run_costs_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        def log_metric(self, *_: Any, **__: Any) -> None:
            raise OSError("no space")

    tracking = Tracking(tmp_path / "run", "local")
    tracking._client = Full()
    tracking.follow(SECOND)
    tracking.finish(SECOND)
    assert (
        capsys.readouterr().err.count("warning: nothing more is logged to MLflow, sqlite:///mlflow.db: no space") == 1
    )


def test_a_missing_mlflow_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingLibraryError, match=r"the library mlflow; .*pip install -e '\.\[mlflow\]'"):
        Tracking(tmp_path / "run", "local").begin(FIRST)
