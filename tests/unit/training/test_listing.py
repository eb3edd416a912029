"""`pixelserve zoo`: the recipes as a table, and their exported models measured again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve.figures import ChoiceRun
from pixelserve.interval import wilson
from pixelserve_training import datasets, zoo
from pixelserve_training.measuring import listing, timing
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
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without other work, on which all models take as long."""
    monkeypatch.setattr(timing, "sample_times_s", lambda *_: np.ones((3, 2)))


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


def test_the_table_shows_goal_mean_spread_and_interval(
    pixelserve: Command, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn(measured={0: 0.99, 1: 0.98, 2: 0.97}, measured_on=10_000)
    row = pixelserve("zoo", "--markdown").out.splitlines()[-1]
    assert "| ≥ 99.00% | 98.00% ± 1.00 (97.00% to 99.00%) | 97.71% to 98.26% | 53 s |" in row
    only_mnist_cnn(measured={0: 0.99}, measured_on=None)
    assert "| 99.00% (one seed) |  | 53 s |" in pixelserve("zoo", "--markdown").out


def test_markdown_has_a_cell_for_every_column(pixelserve: Command) -> None:
    head, rule, *rows = pixelserve("zoo", "--markdown").out.splitlines()
    assert rule == "| --- | --- | --- | --- | --- | --- | --- |"
    assert {line.count("|") for line in (head, *rows)} == {8}


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
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None], goal: Goal, steady: None
) -> None:
    only_mnist_cnn(goal=goal)
    ran = pixelserve("zoo", "--measure", "--model-repository", repository, "--data-dir", TINY)
    assert ran.exit_code == 14
    assert "MISSED" in ran.out


def test_a_time_that_varies_is_not_judged_and_misses_no_goal(
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "settled_ratio", lambda *_: (9.0, 0.31))
    only_mnist_cnn(goal=Goal(0.5, slowdown=1.0))
    options = ("--measure", "--model-repository", repository, "--data-dir", TINY)
    ran = pixelserve("zoo", *options)
    assert ran.exit_code == 0
    assert "9.00 (not judged)" in " ".join(ran.out.split())
    assert "mnist-cnn: time not judged: it still varies by 31% after 12 repetitions" in ran.out
    (row,) = json.loads(pixelserve("zoo", *options, "--json").out)
    assert (row["time_goal"], row["goal_met"]) == ("not judged", None)


@pytest.mark.parametrize(
    ("ratios", "expected", "asked"),
    [
        pytest.param([1.0, 1.01, 1.02], (1.01, 0.0198), 3, id="steady"),
        pytest.param([9.0, 2.0, 1.0, 1.01, 1.02], (1.01, 0.0198), 5, id="steady at last"),
        pytest.param([1.0, 2.0] * 6, (1.0, 1.0), 12, id="never steady"),
    ],
)
def test_a_time_is_repeated_until_three_in_a_row_agree(
    monkeypatch: pytest.MonkeyPatch, ratios: list[float], expected: tuple[float, float], asked: int
) -> None:
    given = iter(ratios)
    monkeypatch.setattr(timing, "sample_times_s", lambda *_: np.array([[next(given), 1.0]]))
    ratio, spread = timing.settled_ratio([], 64)
    assert (ratio, spread) == pytest.approx(expected if asked < 12 else (ratios[-1], 0.5), abs=1e-3)
    assert len(list(given)) == len(ratios) - asked


def test_a_time_is_compared_with_the_version_that_the_goal_names(
    repository: Path, only_mnist_cnn: Callable[..., None], steady: None
) -> None:
    only_mnist_cnn(goal=Goal(0.5, slowdown=1.2, yardstick="mnist-cnn:1"))
    (row,) = listing.measured_rows(repository, TINY)
    assert row.time_goal is not None
    assert row.measured is not None
    assert row.measured.slowdown == 1.0
    only_mnist_cnn(goal=Goal(0.5, slowdown=1.2, yardstick="mnist-cnn:7"))
    (row,) = listing.measured_rows(repository, TINY)
    assert (row.time_goal, row.goal_met) == ("not judged", None)
    assert row.problem == "time not judged: mnist-cnn:7 is not there to compare with"


def test_the_table_shows_the_interval_beside_the_accuracy(
    pixelserve: Command, repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    only_mnist_cnn()
    ran = pixelserve("zoo", "--measure", "--model-repository", repository, "--data-dir", TINY, "--markdown")
    head, _, row = (line.strip("| ").split(" | ") for line in ran.out.splitlines())
    shown = dict(zip(head, row, strict=True))
    samples = len(datasets.load("mnist", TINY).test)
    low, high = wilson(round(float(shown["measured"].rstrip("%")) / 100 * samples), samples)
    assert shown["its 95% interval"] == f"{low:.2%} to {high:.2%}"


def change(repository: Path, **changes: Any) -> None:
    path = repository / "mnist-cnn" / "1" / "card.json"
    card = read_card(path)
    assert card.evaluation is not None
    evaluation = card.evaluation.model_copy(
        update={"split": changes.pop("split"), "choice_run": changes.pop("run", None)}
    )
    card.model_copy(update={"evaluation": evaluation, **changes}).write(path)


def test_samples_that_were_learned_from_have_no_interval(repository: Path, only_mnist_cnn: Callable[..., None]) -> None:
    change(repository, split="training")
    only_mnist_cnn(goal=Goal(0.5, split="training"))
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is not None
    assert row.measured.interval is None


def test_a_model_is_measured_on_the_samples_of_its_card(repository: Path, only_mnist_cnn: Callable[..., None]) -> None:
    change(repository, split="validation", held_out=0.25, hold_out="stratified")
    only_mnist_cnn(goal=Goal(0.5, split="validation"))
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is not None
    assert (row.measured.split, row.measured.samples) == ("validation", 50)
    assert row.goal_met


def test_a_final_model_is_not_measured_before_its_test_split_was_read(
    repository: Path, only_mnist_cnn: Callable[..., None]
) -> None:
    change(repository, split="validation", run=ChoiceRun(run="choice", seed=0))
    only_mnist_cnn()
    (row,) = listing.measured_rows(repository, TINY)
    assert row.measured is None
    assert "not measured: mnist-cnn version 1: its card has the figures of the run that chose" in row.problem


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
    row = listing._measure(zoo.find("mnist-cnn"), repository, TINY, {})
    assert row.measured is None
    assert "SHA-256" in row.problem
