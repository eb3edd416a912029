"""`pixelserve runs`: runs side by side, the best first; unfinished and damaged ones do not stop it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.interval import wilson
from pixelserve_training.running import listed_runs

Command = Callable[..., Any]


def write_run(folder: Path, *, metrics: Any = None, settings: Any = None, **learner: Any) -> None:
    folder.mkdir(parents=True)
    plain = {"recipe": "mnist-mlp", "seed": 0, "dataset": "MNIST", "dataset_sha256": "0" * 64}
    plain |= {"learner": {"epochs": 5, "batch_size": 128} | learner} | (settings or {})
    (folder / "settings.json").write_text(json.dumps(plain))
    figures = {"validation": {"metrics": {"accuracy": 0.9}, "samples": 100}} if metrics is None else metrics
    (folder / "metrics.json").write_text(json.dumps(figures | {"training_s": 12.0}))


def accuracy(value: float, split: str = "validation") -> dict[str, Any]:
    return {split: {"metrics": {"accuracy": value}, "samples": 1000}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three finished runs, an unfinished and a damaged one, and things that are no runs."""
    root = tmp_path / "runs"
    write_run(root / "worst", metrics=accuracy(0.8))
    write_run(root / "best", metrics=accuracy(0.95) | accuracy(0.5, "test"), batch_size=64)
    write_run(root / "middle", metrics=accuracy(0.9, "test"), settings={"seed": 3})
    write_run(root / "damaged")
    (root / "damaged" / "metrics.json").write_text("{")
    (root / "going.partial").mkdir()
    settings = json.loads((root / "worst" / "settings.json").read_text())
    state = {"settings": settings, "request": {}, "epochs": 2, "training_s": 3.0}
    (root / "going.partial" / "state.json").write_text(json.dumps(state))
    (root / "other").mkdir()
    (root / "mnist-mlp.study").write_text("")
    return root


def test_the_best_run_comes_first_and_what_has_no_figure_last(folder: Path) -> None:
    found = listed_runs.listed(folder)
    assert [run.folder for run in found] == ["best", "middle", "worst", "going.partial", "damaged"]
    assert [run.state for run in found] == ["finished"] * 3 + ["unfinished", "damaged"]
    assert (found[3].epochs, found[3].figure) == (2, None)
    assert "metrics" in found[4].problem or "Expecting" in found[4].problem


def test_held_out_figures_come_before_those_of_the_test_split(folder: Path) -> None:
    best, middle, *_ = listed_runs.listed(folder)
    assert best.figure is not None
    assert middle.figure is not None
    assert (best.figure.value, best.figure.split) == (0.95, "validation")
    assert best.figure.interval == wilson(950, 1000)
    assert (middle.figure.split, middle.seed) == ("test", 3)


def test_runs_of_several_seeds_are_listed_one_by_one_and_a_final_one_names_whose_figure_it_has(
    pixelserve: Command, tmp_path: Path
) -> None:
    for seed in (2, 0):
        chosen = {"seed": seed, "chosen_by": {"run": "choice", "seed": 0, "held_out": 0.1}}
        write_run(tmp_path / "final" / f"seed-{seed}", metrics=accuracy(0.9), settings=chosen)
    found = listed_runs.listed(tmp_path)
    assert [(run.folder, run.seed, run.chosen_by) for run in found] == [
        ("final/seed-0", 0, "choice"),
        ("final/seed-2", 2, "choice"),
    ]
    assert pixelserve("runs", tmp_path).out.count("validation of choice") == 2


def test_only_settings_that_most_runs_do_not_have_are_shown(folder: Path) -> None:
    assert {run.folder: run.differs for run in listed_runs.listed(folder) if run.differs} == {
        "best": {"batch_size": 64}
    }


def test_errors_rank_the_other_way_round(tmp_path: Path) -> None:
    for name, error in (("a", 3.0), ("b", 1.0)):
        write_run(tmp_path / name, metrics={"training": {"metrics": {"mean_squared_error": error}, "samples": 25}})
    found = listed_runs.listed(tmp_path)
    assert [run.folder for run in found] == ["b", "a"]
    assert found[0].figure is not None
    assert found[0].figure.interval is None


def test_the_table_and_json_have_every_run(pixelserve: Command, folder: Path) -> None:
    ran = pixelserve("runs", folder)
    assert ran.exit_code == 0
    _, best, *_ = ran.out.splitlines()
    assert best.split()[0] == "best"
    assert best.split()[4:] == ["0", "5", "95.00%", "93.47%", "to", "96.19%", "validation", "12", "s", "batch_size=64"]
    assert "damaged" in ran.out
    rows = json.loads(pixelserve("runs", folder, "--json").out)
    assert [row["folder"] for row in rows] == ["best", "middle", "worst", "going.partial", "damaged"]


def test_a_folder_that_does_not_exist_or_holds_no_runs_is_said(pixelserve: Command, tmp_path: Path) -> None:
    ran = pixelserve("runs", tmp_path / "none")
    assert ran.exit_code == 2
    assert "no such folder; give the one that holds the runs' folders" in ran.err
    assert "no runs in" in pixelserve("runs", tmp_path).out
