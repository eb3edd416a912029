"""`pixelserve zoo`: the recipes as a table, and their exported models measured again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelserve.interval import wilson
from pixelserve_training import datasets, zoo
from pixelserve_training.measuring import evaluation_data, listing, timing
from pixelserve_training.recipe import Goal
from pixelserve_training.runtime import OnnxModel

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
MODELS = ROOT / "models"

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks at a time, so the fewest rounds do."""
    monkeypatch.setattr(timing, "_BUDGET_S", 0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository that holds mnist-cnn alone."""
    shutil.copytree(MODELS / "mnist-cnn", tmp_path / "models" / "mnist-cnn")
    return tmp_path / "models"


@pytest.fixture
def only_mnist_cnn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves one recipe in the zoo, changed as told."""

    def leave(**changes: Any) -> None:
        recipe = replace(zoo.find("mnist-cnn"), **changes)
        monkeypatch.setattr(zoo, "recipes", lambda: [recipe])

    return leave


def test_every_recipe_has_a_row(pixelserve: Command) -> None:
    ran = pixelserve("zoo", "--json")
    assert ran.exit_code == 0
    rows = json.loads(ran.out)
    assert sorted(row["recipe"] for row in rows) == zoo.names()
    assert all(row["measured"] is None and row["problem"] == "" for row in rows)


def test_the_table_shows_goal_claim_and_spread(pixelserve: Command) -> None:
    (line,) = [line for line in pixelserve("zoo").out.splitlines() if line.startswith("mnist-cnn ")]
    assert line.split() == (
        "mnist-cnn mnist 93,322 ≥ 99.00% 99.32% (99.30% to 99.41%) 52 s".split()  # noqa: SIM905
    )


def test_markdown_has_a_cell_for_every_column(pixelserve: Command) -> None:
    head, rule, *rows = pixelserve("zoo", "--markdown").out.splitlines()
    assert rule == "| --- | --- | --- | --- | --- | --- |"
    assert {line.count("|") for line in (head, *rows)} == {7}


def test_an_exported_model_is_measured_again(
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn()
    ran = pixelserve("zoo", "--measure", "--model-repository", repository, "--data-dir", TINY, "--json")
    (row,) = json.loads(ran.out)
    test = datasets.load("mnist", TINY).test
    content = (MODELS / "mnist-cnn" / "1" / "model.onnx").read_bytes()
    scores = OnnxModel(content, source="mnist-cnn").run({"image": test.inputs})["probabilities"]
    assert row["measured"]["figure"] == (scores.argmax(axis=1) == test.targets).mean()
    assert row["measured"]["split"] == "test"
    assert row["measured"]["version"] == 1
    assert row["measured"]["samples"] == len(test.targets)
    right = int((scores.argmax(axis=1) == test.targets).sum())
    assert row["measured"]["interval"] == pytest.approx(wilson(right, len(test.targets)))
    assert row["measured"]["slowdown"] > 0
    assert row["goal_met"] is True
    assert ran.exit_code == 0


@pytest.mark.parametrize(
    "goal",
    [
        pytest.param(Goal(1.01), id="accuracy"),
        pytest.param(Goal(0.5, slowdown=1e-9), id="time"),
    ],
)
def test_a_missed_goal_is_shown_and_ends_with_14(
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None], goal: Goal
) -> None:
    only_mnist_cnn(goal=goal)
    ran = pixelserve("zoo", "--measure", "--model-repository", repository, "--data-dir", TINY)
    assert ran.exit_code == 14
    assert "MISSED" in ran.out


def test_the_table_shows_the_interval_beside_the_accuracy(
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn()
    ran = pixelserve("zoo", "--measure", "--model-repository", repository, "--data-dir", TINY, "--markdown")
    head, _, row = (line.strip("| ").split(" | ") for line in ran.out.splitlines())
    shown = dict(zip(head, row, strict=True))
    samples = len(datasets.load("mnist", TINY).test)
    low, high = wilson(round(float(shown["measured"].rstrip("%")) / 100 * samples), samples)
    assert shown["95% interval"] == f"{low:.2%} to {high:.2%}"


def test_samples_that_were_learned_from_have_no_interval(
    repository: Path, only_mnist_cnn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_dataset = evaluation_data.from_dataset
    monkeypatch.setattr(evaluation_data, "from_dataset", lambda *given: replace(from_dataset(*given), split="training"))
    only_mnist_cnn(goal=Goal(0.5, split="training"))
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is not None
    assert row.measured.interval is None


def test_a_goal_on_held_out_samples_is_measured_on_those(repository: Path, only_mnist_cnn: Callable[..., None]) -> None:
    only_mnist_cnn(goal=Goal(0.5, split="validation"), held_out=0.25)
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is not None
    assert row.measured.split == "validation"
    assert row.goal_met


def test_a_figure_on_other_samples_than_the_goals_decides_nothing(
    repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn(goal=Goal(1.01, split="cross-validation"))
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is not None
    assert row.measured.split == "test"
    assert row.goal_met is None


def test_a_recipe_that_was_not_exported_says_what_to_run(
    pixelserve: Command, tmp_path: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn()
    ran = pixelserve("zoo", "--measure", "--model-repository", tmp_path, "--data-dir", TINY)
    assert ran.exit_code == 0
    assert f"mnist-cnn: not measured: not in {tmp_path}: pixelserve train mnist-cnn" in ran.out
    assert "no times to compare with" in ran.err


def test_another_model_under_a_recipes_name_is_not_measured(
    repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    card = repository / "mnist-cnn" / "1" / "card.json"
    card.write_text(card.read_text().replace('"recipe": "mnist-cnn"', '"recipe": "another"'))
    only_mnist_cnn()
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is None
    assert "not this recipe's" in row.problem


def test_a_damaged_model_is_named(repository: Path, only_mnist_cnn: Callable[..., None]) -> None:
    only_mnist_cnn()
    (repository / "mnist-cnn" / "1" / "model.onnx").write_bytes(b"damaged")
    row = listing._measure(zoo.find("mnist-cnn"), repository, TINY, None)
    assert row.measured is None
    assert "SHA-256" in row.problem
