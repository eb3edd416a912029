"""`pixelserve train --seeds`: a run per seed, named beforehand, with their mean and spread."""

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelserve.interval import wilson
from pixelserve_training import zoo
from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import fit, seeds

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


@pytest.fixture
def train(
    small_recipe: KerasRecipe, pixelserve: Command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs `pixelserve train small` with further arguments; the run's folder is tmp_path/run."""
    monkeypatch.setattr(zoo, "find", lambda _: replace(small_recipe, held_out=0.25))

    def run(*arguments: object, run_dir: str = "run") -> Any:
        return pixelserve("train", "small", "--data-dir", data_dir, "--run-dir", tmp_path / run_dir, *arguments)

    return run


def test_a_run_per_seed_is_trained_kept_and_taken_on_by_final_runs(
    train: Command, pixelserve: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. two seeds; 2. the same with a third and --resume, which trains that one alone; 3. final runs of two
    of them; 4. the folder is not a run to export."""
    first = train("--seeds", "1,0")
    assert first.exit_code == 0, first.err
    assert "to export is seed 1, because it was named first, not the best one: pixelserve export" in first.out
    before = (tmp_path / "run" / "seed-0" / "model.keras").stat().st_mtime_ns

    again = train("--seeds", "1,0,2", "--resume", "--json")
    assert again.exit_code == 0, again.err
    assert again.err.count("is finished; nothing is trained") == 2
    assert (tmp_path / "run" / "seed-0" / "model.keras").stat().st_mtime_ns == before
    said = json.loads(again.out)
    by_seed = {
        str(seed): json.loads((tmp_path / "run" / f"seed-{seed}" / "metrics.json").read_text())["validation"][
            "metrics"
        ]["accuracy"]
        for seed in (1, 0, 2)
    }
    assert (said["by_seed"], said["split"]) == (by_seed, "validation")
    assert said["mean"] == pytest.approx(statistics.mean(by_seed.values()))
    assert said["standard_deviation"] == pytest.approx(statistics.stdev(by_seed.values()))
    assert (said["lowest"], said["highest"]) == (min(by_seed.values()), max(by_seed.values()))
    assert said["interval"] == pytest.approx(wilson(round(16 * said["mean"]), 16))
    kept = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert kept == {name: value for name, value in said.items() if name != "runs"}
    assert "small, seeds 1, 0, 2" in (tmp_path / "run" / "report.html").read_text()

    last = train("--seeds", "1,2", "--final", tmp_path / "run", "--json", run_dir="final")
    assert last.exit_code == 0, last.err
    final = json.loads(last.out)
    assert final["by_seed"] == {seed: by_seed[seed] for seed in ("1", "2")}
    assert [run["chosen_by"]["run"] for run in final["runs"]] == [f"{tmp_path}/run/seed-{seed}" for seed in (1, 2)]
    missing = train("--seeds", "1,7", "--final", tmp_path / "run", run_dir="other")
    assert (missing.exit_code, "it holds no run of seed 7" in missing.err) == (2, True)

    ran = pixelserve("export", tmp_path / "run", "--to", tmp_path / "models")
    assert ran.exit_code == 2
    assert f"export the one named first, not the best: {tmp_path}/run/seed-1" in ran.err


def test_final_runs_of_one_choice_have_its_figure_and_no_spread(train: Command, tmp_path: Path) -> None:
    assert train(run_dir="choice").exit_code == 0
    ran = train("--seeds", "3,4", "--final", tmp_path / "choice")
    assert ran.exit_code == 0, ran.err
    assert f"of {tmp_path}/choice (seed 0): no figure of these networks" in ran.out
    assert "standard deviation" not in ran.out


@pytest.mark.parametrize("text", ["", "0,", "0,0", "a", "-1", "0;1"])
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected different whole numbers"):
        seeds.parse(text)


def test_a_seed_beside_the_seeds_is_refused(train: Command) -> None:
    ran = train("--seeds", "0,1", "--seed", 2)
    assert (ran.exit_code, "--seed 2 and --seeds: give one of them" in ran.err) == (2, True)


def test_a_folder_that_exists_is_refused_before_the_first_seed(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "train", lambda *_, **__: pytest.fail("it was trained"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    ran = train("--seeds", "0,1")
    assert (ran.exit_code, "exists already" in ran.err) == (2, True)
