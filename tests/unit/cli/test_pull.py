"""`pixelserve models pull`: output, exit codes, and leftovers after an interruption."""

import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 60
MODEL = Path(__file__).resolve().parents[3] / "models" / "mnist-cnn"
SHA256 = json.loads((MODEL / "1" / "card.json").read_text())["sha256"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is not there yet, named by the environment."""
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model without a card."""
    (tmp_path / "source" / "bare" / "1").mkdir(parents=True)
    (tmp_path / "source" / "bare" / "1" / "model.onnx").write_bytes(b"a model")
    return tmp_path / "source" / "bare"


def test_it_says_what_was_done(run: Callable[..., Any], repository: Path) -> None:
    ran = run("models", "pull", MODEL)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"mnist-cnn version 1 added; SHA-256 {SHA256[:12]}… as its card says, 16 golden samples",
        "config.pbtxt added",
        "labels.txt added",
        f"next: pixelserve serve --model-repository {repository}",
    ]
    assert "mnist-cnn version 1 unchanged;" in run("models", "pull", MODEL).out


def test_json_holds_the_same(run: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    ran = run("models", "pull", MODEL, "--model-repository", target, "--name", "digits", "--versions", "1", "--json")
    assert json.loads(ran.out) == {
        "model": "digits",
        "folder": str(target / "digits"),
        "source": str(MODEL),
        "versions": [{"version": 1, "state": "added", "sha256": SHA256, "golden_samples": 16, "checked": None}],
        "files": {"config.pbtxt": "added", "labels.txt": "added"},
        "fetched_bytes": sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()),
    }


@pytest.mark.slow
def test_a_checked_model_has_reproduced_its_golden_samples(run: Callable[..., Any], repository: Path) -> None:
    ran = run("models", "pull", MODEL, "--check")
    assert ran.out.startswith("mnist-cnn version 1 added; verified: 16 golden samples reproduced, largest difference ")


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_fails_its_check(run: Callable[..., Any], repository: Path, bare: Path) -> None:
    ran = run("models", "pull", bare, "--check")
    assert ran.code == 1
    assert ran.err.startswith(f"pixelserve: {bare}: 1/model.onnx: ")
    assert not list(repository.rglob("*"))


def test_a_check_needs_the_server(run: Callable[..., Any], repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in [name for name in sys.modules if name.startswith(("pixelserve_server", "pixelserve.onnx_runtime"))]:
        monkeypatch.delitem(sys.modules, name)
    ran = run("models", "pull", MODEL, "--check")
    assert ran.code == 3
    assert "pip install -e '.[server]'" in ran.err
    assert not repository.exists()


def test_a_model_without_a_card_is_warned_of(run: Callable[..., Any], repository: Path, bare: Path) -> None:
    ran = run("models", "pull", bare)
    assert ran.code == 0
    assert ran.err == "warning: bare version 1 has no card.json, so it cannot be verified\n"
    assert "bare version 1 added; unverified: no card.json" in ran.out


FAILURES = [
    pytest.param(["{model}", "--versions", "1,x"], 2, "expected comma-separated numbers above 0", id="no number"),
    pytest.param(["{model}", "--versions", "0"], 2, "expected comma-separated numbers above 0", id="version 0"),
    pytest.param(["{model}", "--versions", ""], 2, "expected comma-separated numbers above 0", id="no version"),
    pytest.param(["{model}", "--versions", "²"], 2, "expected comma-separated numbers above 0", id="a power"),
    pytest.param(["{model}", "--name", "../out"], 2, "expected letters, digits", id="a name that leads out"),
    pytest.param(["nosuch://bucket/model"], 2, "Protocol not known", id="unknown scheme"),
    pytest.param(["{bare}", "--require-card"], 1, "has no card.json, and --require-card is on", id="no card"),
    pytest.param(["{bare}/nothing"], 4, "No such file or directory", id="nothing there"),
    pytest.param(["{model}", "--versions", "7"], 4, "has no version 7; it has 1", id="no such version"),
    pytest.param(["http://{nobody}/model"], 5, "does not answer", id="no server"),
    pytest.param(["{model}", "--max-mib", "0"], 2, "--max-mib", id="no room"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), FAILURES)
def test_a_failure_has_its_exit_code_and_leaves_nothing(
    run: Callable[..., Any], repository: Path, bare: Path, no_server: str, arguments: list[str], code: int, said: str
) -> None:
    places = {"model": str(MODEL), "bare": str(bare), "nobody": no_server}
    ran = run("models", "pull", *(argument.format(**places) for argument in arguments))
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert not list(repository.rglob("*"))


def test_more_than_allowed_is_refused(run: Callable[..., Any], repository: Path, bare: Path) -> None:
    (bare / "1" / "model.onnx").write_bytes(bytes(1_048_577))
    ran = run("models", "pull", bare, "--max-mib", "1")
    assert ran.code == 1
    assert "more than 1 MiB; raise --max-mib" in ran.err
    assert run("models", "pull", bare, "--max-mib", "2").code == 0


def test_names_of_strangers_do_not_steer_the_terminal(
    run: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    ran = run("models", "pull", tmp_path / "\x1b[2Jred")
    assert ran.code == 2
    assert "\\x1b[2Jred" in ran.err
    assert "\x1b" not in ran.err


def test_a_bar_shows_on_a_terminal(run: Callable[..., Any], repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ran = run("models", "pull", MODEL)
    assert "pulling" in ran.err
    assert "\x1b" not in ran.out


@pytest.fixture
def stalling(bare: Path) -> Iterator[tuple[str, threading.Event]]:
    """A web server that begins to send the model file and then stalls; an event says that it does."""
    stalled, over = threading.Event(), threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(bare.parent))

        def do_GET(self) -> None:
            if not self.path.endswith("model.onnx"):
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"a m")
            self.wfile.flush()
            stalled.set()
            over.wait(WAIT_S)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/bare", stalled
        over.set()
        server.shutdown()
        thread.join()


COMMAND = [sys.executable, "-m", "pixelserve", "models", "pull"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_transfer_that_is_stopped_leaves_nothing(
    stalling: tuple[str, threading.Event], repository: Path, number: signal.Signals
) -> None:
    url, stalled = stalling
    with subprocess.Popen([*COMMAND, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert stalled.wait(WAIT_S)
            assert (repository / ".bare.pull").is_dir()
            process.send_signal(number)
            out, err = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(repository.rglob("*"))


@pytest.mark.slow
def test_a_pull_goes_on_where_another_one_was_killed(
    stalling: tuple[str, threading.Event], repository: Path, run: Callable[..., Any], bare: Path
) -> None:
    url, stalled = stalling
    with subprocess.Popen([*COMMAND, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert stalled.wait(WAIT_S)
        finally:
            process.kill()
    assert (repository / ".bare.pull").is_dir()
    assert run("models", "pull", bare).code == 0
    assert [path.name for path in repository.iterdir()] == ["bare"]


@pytest.mark.slow
def test_a_full_disk_is_named_and_nothing_is_left(bare: Path, repository: Path) -> None:
    (bare / "1" / "model.onnx").write_bytes(bytes(3 << 20))
    # No file of the process may grow beyond this: a real write fails, in the middle.
    limit = 1 << 20
    done = subprocess.run(
        [*COMMAND, bare],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert f"{repository / 'bare'} cannot be written: File too large; nothing half-written was left" in done.stderr
    assert not list(repository.rglob("*"))
