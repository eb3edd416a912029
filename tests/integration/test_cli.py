"""The client's commands against a real server with the committed models."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
TIMEOUT_S = 120


@dataclass(frozen=True)
class Ran:
    """A command's result."""

    code: int
    out: str
    err: str


@pytest.fixture
def pixelserve(server: Any) -> Callable[..., Ran]:
    """Runs the `pixelserve` command as a process, with the server's address."""

    def run(*arguments: object) -> Ran:
        command = [sys.executable, "-m", "pixelserve", *map(str, arguments), "--address", server.grpc]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def true_label(path: str) -> str:
    """Returns the label in a name such as digit-7-test-00000.png."""
    return Path(path).name.split("-")[1]


def test_classify_finds_the_digits_of_the_examples(pixelserve: Callable[..., Ran], root: Path) -> None:
    ran = pixelserve("classify", root / "examples" / "mnist", "--model", "mnist-cnn", "--json")
    assert ran.code == 0
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert len(rows) == 10
    assert [row["classes"][0]["label"] for row in rows] == [true_label(row["path"]) for row in rows]
    assert all(len(row["classes"]) == 3 for row in rows)


def test_classify_reports_a_damaged_picture_in_its_row(
    pixelserve: Callable[..., Ran], root: Path, tmp_path: Path
) -> None:
    good = next((root / "examples" / "mnist").glob("digit-0-*.png")).read_bytes()
    (tmp_path / "digit-0-whole.png").write_bytes(good)
    (tmp_path / "digit-0-cut.png").write_bytes(good[: len(good) // 2])
    ran = pixelserve("classify", tmp_path, "--model", "mnist-cnn", "--csv", tmp_path / "out.csv")
    assert ran.code == 10
    with (tmp_path / "out.csv").open(newline="") as file:
        cut, whole = csv.DictReader(file)
    assert cut["error"]
    assert cut["label_1"] == ""
    assert (whole["error"], whole["label_1"]) == ("", "0")


def test_an_unknown_model_is_one_sentence_and_exit_code_4(pixelserve: Callable[..., Ran], root: Path) -> None:
    ran = pixelserve("classify", root / "examples" / "mnist", "--model", "no-such-model")
    assert ran.code == 4
    assert len(ran.err.splitlines()) == 1
    assert "no-such-model" in ran.err


def test_models_show_the_committed_cards_figures(pixelserve: Callable[..., Ran], root: Path) -> None:
    card = json.loads((root / "models" / "mnist-cnn" / "1" / "card.json").read_text())
    assert "mnist-cnn" in pixelserve("models", "list").out
    ran = pixelserve("models", "show", "mnist-cnn")
    assert ran.code == 0
    for figure in (
        card["sha256"],
        card["dataset"]["name"],
        f"{card['evaluation']['metrics']['accuracy']:.2%}",
        "READY",
    ):
        assert figure in ran.out
    assert json.loads(pixelserve("models", "show", "mnist-cnn", "--json").out)[0]["card"] == card


def test_health_knows_the_server_and_its_models(pixelserve: Callable[..., Ran]) -> None:
    assert pixelserve("health", "--wait-s", 30).code == 0
    assert pixelserve("health", "mnist-cnn").code == 0
    assert pixelserve("health", "no-such-model").code == 11


@pytest.mark.parametrize("method", ["classify", "infer"])
@pytest.mark.parametrize("pictures", [False, True], ids=["made-up", "pictures"])
def test_bench_is_answered_without_errors(
    pixelserve: Callable[..., Ran], root: Path, method: str, pictures: bool
) -> None:
    images = ("--images", root / "examples" / "mnist") if pictures else ()
    ran = pixelserve(
        *("bench", "--model", "mnist-cnn", "--method", method, "--requests", 100, "--warmup-s", 0),
        *("--batch", 4, "--concurrency", 8, "--json", *images),
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["requests"], found["answered"], found["errors"]) == (100, 100, {})


@pytest.mark.slow
def test_bench_overloads_a_server_and_says_what_came_of_it(pixelserve: Callable[..., Ran]) -> None:
    args = ("bench", "--model", "mnist-cnn", "--method", "infer", "--overload", "--duration-s", 0.5, "--connections", 2)
    ran = pixelserve(*args, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [level["times_capacity"] for level in found["levels"]] == [0.7, 1, 2, 5, 10]
    assert found["capacity_per_s"] > 0
    assert all(sum(level["codes"].values()) + level["unanswered"] > 0 for level in found["levels"])
    assert found["polite"]["codes"].get("OK", 0) > 0
    assert found["polite"]["batch"] > 0


@pytest.mark.parametrize("method", ["classify", "infer"])
def test_a_measured_curve_becomes_a_plan(
    pixelserve: Callable[..., Ran], server: Any, tmp_path: Path, method: str
) -> None:
    load = ("--curve", "--duration-s", 0.5, "--method", method, "--metrics-url", server.metrics)
    measured = pixelserve("bench", "--model", "mnist-cnn", *load, "--json")
    assert measured.code == 0, measured.err
    found = json.loads(measured.out)
    assert [level["in_flight"] for level in found["levels"]] == [1, 2, 4, 8, 16, 32, 64]
    assert all(level["cpu_ms_per_request"] > 0 for level in found["levels"])
    assert found["levels"][0]["images_per_run"] == 1
    assert found["memory_bytes"] > 50 << 20
    assert found["sessions"] == 1
    path = tmp_path / "curve.json"
    path.write_text(measured.out)
    command = [sys.executable, "-m", "pixelserve", "plan", "--bench", str(path), "--rps", "100000", "--p99-ms", "60000"]
    plan = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert plan.returncode == 0, plan.stderr
    planned = json.loads(plan.stdout)
    assert planned["pods"] > 2
    assert planned["pod"]["cpu_cores"] >= 1


def test_without_a_file_plan_measures_the_server(pixelserve: Callable[..., Ran], server: Any) -> None:
    ran = pixelserve(
        *("plan", "--model", "mnist-cnn", "--rps", 1, "--p99-ms", 60_000, "--metrics-url", server.metrics), "--json"
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["pods"] == 2


def test_the_metrics_page_of_another_server_is_not_taken(pixelserve: Callable[..., Ran], server: Any) -> None:
    other = server.metrics.removesuffix("/metrics") + "/ready"
    ran = pixelserve("bench", "--model", "mnist-cnn", "--curve", "--metrics-url", other)
    assert ran.code == 1
    assert "has no metrics of the measured model" in ran.err
