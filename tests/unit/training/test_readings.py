"""`pixelserve evaluate --split`: readings of a test split are logged once; held-out samples are those of the run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pixelserve.card import Card, read_card
from pixelserve.figures import ChoiceRun
from pixelserve.interval import wilson
from pixelserve_training.measuring import readings, timing

Command = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
# Of tests/data/tiny: 10 of each class.
TEST_IMAGES = 100


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own log is not around the working directory; and no test looks at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "_BUDGET_S", 0.0)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version of mnist-cnn."""
    shutil.copytree(ROOT / "models" / "mnist-cnn", tmp_path / "models" / "mnist-cnn")
    return tmp_path / "models" / "mnist-cnn" / "1"


@pytest.fixture
def evaluate(pixelserve: Command, version: Path) -> Command:
    def run(*arguments: object) -> Any:
        return pixelserve("evaluate", version, "--data-dir", TINY, *arguments)

    return run


def change(version: Path, **changes: Any) -> Card:
    card = read_card(version / "card.json").model_copy(update=changes)
    card.write(version / "card.json")
    return card


def log_in(folder: Path) -> Path:
    path = folder / "docs" / "test-split-readings.md"
    path.parent.mkdir(parents=True)
    path.write_text("# Readings\n\nWords before it.\n")
    return path


def test_a_reading_is_logged_in_the_checkout_around_the_working_directory(
    evaluate: Command, version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_in(tmp_path / "checkout")
    (tmp_path / "checkout" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "checkout" / "deep")
    ran = evaluate("--split", "test", "--json")
    assert ran.exit_code == 0, ran.err
    said = json.loads(ran.out)
    assert said["reading"] == {"log": str(log), "repeats": None}
    *before, head, _, row = log.read_text().splitlines()
    assert before == ["# Readings", "", "Words before it.", ""]
    cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    right = round(said["metrics"]["accuracy"] * TEST_IMAGES)
    low, high = wilson(right, TEST_IMAGES)
    assert date.fromisoformat(cells.pop("date"))
    assert cells == {
        "recipe": "mnist-cnn",
        "commit": "unknown",
        "seed": "0",
        "data": f"MNIST {said['dataset']['sha256'][:8]}",
        "accuracy": f"{right / TEST_IMAGES:.2%}",
        "95% interval": f"{low:.2%} to {high:.2%}",
        "SHA-256 of model.onnx": read_card(version / "card.json").sha256[:12],
    }


def test_a_repeated_reading_is_not_logged_again_and_another_models_is(
    evaluate: Command, version: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.md"
    first = evaluate("--split", "test", "--readings", log)
    assert "this reading of the test split is logged in" in first.out
    logged = log.read_text()
    again = evaluate("--split", "test", "--readings", log)
    assert f"repeats that of {date.today()} in {log}, and is not logged again" in again.out
    assert log.read_text() == logged
    log.write_text(logged.replace(read_card(version / "card.json").sha256[:12], "0" * 12))
    assert evaluate("--split", "test", "--readings", log).exit_code == 0
    assert log.read_text().count("mnist-cnn") == 2
    assert log.read_text().count("| date |") == 1


def test_the_checked_out_commit_is_in_the_row(evaluate: Command, tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path))
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    evaluate("--split", "test", "--readings", tmp_path / "log.md")
    assert f"| {done.stdout[:10]} |" in (tmp_path / "log.md").read_text()


def test_without_a_log_the_reading_is_said_not_to_be_logged(evaluate: Command, tmp_path: Path) -> None:
    ran = evaluate("--split", "test")
    assert ran.exit_code == 0
    assert "this reading of the test split was not logged" in ran.out
    assert "log it with --readings FILE" in ran.out


def test_figures_of_the_card_are_repeated_without_a_reading(evaluate: Command, tmp_path: Path) -> None:
    log = log_in(tmp_path)
    before = log.read_text()
    ran = evaluate("--json")
    assert json.loads(ran.out)["split"] == "test"
    assert json.loads(ran.out)["reading"] is None
    assert log.read_text() == before


def test_a_log_that_cannot_be_written_stops_the_command_before_it_reads(evaluate: Command, tmp_path: Path) -> None:
    ran = evaluate("--split", "test", "--readings", tmp_path / "missing" / "log.md")
    assert ran.exit_code == 2
    assert "log.md cannot be written: No such file or directory; give another --readings FILE" in ran.err
    assert "measuring" not in ran.err


def test_held_out_samples_are_measured_if_the_card_says_how_they_were_chosen(evaluate: Command, version: Path) -> None:
    change(version, held_out=0.25)
    refused = evaluate("--split", "validation")
    assert refused.exit_code == 2
    assert "does not say that it left out any of today's held-out samples of MNIST" in refused.err
    change(version, held_out=0.25, hold_out="stratified")
    said = json.loads(evaluate("--split", "validation", "--json").out)
    assert (said["split"], said["samples"]) == ("validation", 50)
    assert set(said["per_class_samples"].values()) == {5}


def test_the_first_reading_can_take_the_place_of_held_out_figures_in_the_card(
    evaluate: Command, version: Path, tmp_path: Path
) -> None:
    """Timeline: 1. the card has the figures of the run that chose; 2. only the test split can be measured; 3. the card
    has its figures."""
    data = json.loads(evaluate("--json").out)["dataset"]
    card = read_card(version / "card.json")
    assert card.evaluation is not None
    assert card.dataset is not None
    chosen = card.evaluation.model_copy(update={"split": "validation", "choice_run": ChoiceRun(run="choice", seed=0)})
    change(version, evaluation=chosen, dataset=card.dataset.model_copy(update={"sha256": data["sha256"]}))
    refused = evaluate()
    assert refused.exit_code == 2
    assert "its card has the figures of the run that chose its settings" in refused.err
    ran = evaluate("--split", "test", "--write-card", "--readings", tmp_path / "log.md")
    assert ran.exit_code == 0, ran.err
    written = read_card(version / "card.json")
    assert written.evaluation is not None
    assert written.baseline is not None
    assert (written.evaluation.split, written.evaluation.samples) == ("test", TEST_IMAGES)
    assert written.evaluation.choice_run is None
    assert evaluate().out.endswith("agrees with its card\n")


def test_held_out_figures_do_not_take_the_place_of_the_test_splits(evaluate: Command, version: Path) -> None:
    change(version, held_out=0.25, hold_out="stratified")
    before = (version / "card.json").read_bytes()
    assert evaluate("--split", "validation", "--write-card").exit_code == 2
    assert (version / "card.json").read_bytes() == before


def test_a_split_beside_samples_is_refused(evaluate: Command, tmp_path: Path) -> None:
    ran = evaluate("--split", "test", "--samples", tmp_path / "samples.npz")
    assert (ran.exit_code, "--split test is for the card's data set" in ran.err) == (2, True)


def test_the_projects_log_holds_the_committed_models() -> None:
    log = (ROOT / readings.FILE).read_text()
    for card in (read_card(path) for path in sorted((ROOT / "models").glob("*/*/card.json"))):
        assert card.evaluation is not None
        assert card.dataset is not None
        accuracy = f"{card.evaluation.metrics['accuracy']:.2%}"
        assert f"| {card.dataset.name} {card.dataset.sha256[:8]} | {accuracy} |" in log
        if card.evaluation.split == "test":
            assert f"| {card.sha256[:12]} |" in log
