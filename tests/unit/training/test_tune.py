"""`pixelserve tune`: on held-out samples, the same for a seed, continued from its file, without a socket."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.cli import extras
from pixelserve_training import datasets, learners, zoo
from pixelserve_training.datasets import hold_out
from pixelserve_training.errors import UsageError
from pixelserve_training.running import search_space, tune
from pixelserve_training.running.search_space import Range

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
Command = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
TRIED = ("learning_rate=0.5..2", "epochs=100..400")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """numpy-xor's learner on rows that a line separates but for some, with a part held out: milliseconds a trial."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(80, 2))
    labels = (inputs[:, 0] > 0.1) ^ (np.arange(80) % 7 == 0)
    dataset = datasets.from_arrays("rows", (inputs, labels.astype(int)), labels=("left", "right"))
    monkeypatch.setattr(datasets, "load", lambda *_: replace(dataset, test=None))
    return dataset


def search(study: Path, *, trials: int = 3, seed: int = 0, space: tuple[str, ...] = TRIED) -> tune.Tuning:
    return tune.tune(
        "numpy-xor", trials=trials, data_dir=None, fixed={"held_out": 0.25}, space=space, seed=seed, study=study
    )


def test_a_seed_gives_the_same_trials_and_another_gives_others(rows: Any, tmp_path: Path) -> None:
    first, again, other = (search(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first.trials == again.trials
    assert {trial.number for trial in first.trials} == {0, 1, 2}
    assert [trial.values for trial in other.trials] != [trial.values for trial in first.trials]
    figures = [trial.figure for trial in first.trials]
    assert figures == sorted(figures, reverse=True)
    assert all(0.5 <= trial.values["learning_rate"] <= 2 for trial in first.trials)


def test_a_search_continues_from_its_file_with_other_values(rows: Any, tmp_path: Path) -> None:
    before = search(tmp_path / "study", trials=2)
    after = search(tmp_path / "study", trials=2)
    assert len(after.trials) == 4
    assert {trial.number: trial for trial in before.trials}.items() <= {t.number: t for t in after.trials}.items()
    assert len({trial.values["learning_rate"] for trial in after.trials}) == 4


def test_a_figure_is_of_the_held_out_samples_of_a_network_that_learned_the_others(rows: Any, tmp_path: Path) -> None:
    tuning = search(tmp_path / "study", trials=1)
    (trial,) = tuning.trials
    recipe = replace(zoo.find("numpy-xor"), held_out=0.25, **trial.values)
    trained = learners.fit(recipe, rows)
    learned, held_out = (
        float(((trained.predict(part.inputs)[:, 0] > 0.5) == part.targets).mean())
        for part in hold_out(rows.train, 0.25)
    )
    assert learned != pytest.approx(held_out)
    assert trial.figure == pytest.approx(held_out)
    assert tuning.samples == 20


def test_a_study_of_other_values_is_not_continued(rows: Any, tmp_path: Path) -> None:
    search(tmp_path / "study", trials=1)
    with pytest.raises(UsageError, match="give another --study, or remove it"):
        search(tmp_path / "study", trials=1, space=TRIED[:1])


def test_a_search_opens_no_socket(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    assert len(search(tmp_path / "study", trials=2).trials) == 2


@pytest.mark.slow
def test_the_command_prints_the_line_that_trains_with_the_best_values(pixelserve: Command, tmp_path: Path) -> None:
    options = ("--trials", 2, "--study", tmp_path / "study", "--data-dir", TINY, "--set", "epochs=1")
    space = ("--space", "optimizer.learning_rate=1e-4..1e-2:log", "--space", "batch_size=50,100")
    ran = pixelserve("tune", "mnist-mlp", *options, *space, "--json")
    assert ran.exit_code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["split"], found["samples"], len(found["trials"])) == ("validation", 33, 2)
    assert found["command"].startswith("pixelserve train mnist-mlp --set epochs=1 --set optimizer.learning_rate=0.00")
    again = pixelserve(*found["command"].split()[1:], "--data-dir", TINY, "--run-dir", tmp_path / "run")
    assert again.exit_code == 0
    assert "trial" in pixelserve("tune", "mnist-mlp", *options, *space).out


def test_a_table_too_small_to_hold_samples_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"xor: values are compared on held-out samples, but 10% of 4 .* is none"):
        tune.tune("xor", trials=1, data_dir=None, fixed={}, study=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_ranges_are_read_with_the_types_of_the_recipe() -> None:
    recipe = zoo.find("mnist-mlp")
    texts = ["optimizer.learning_rate=1e-4..1e-1:log", "epochs=1..9", "optimizer.name=adam,rmsprop"]
    assert search_space.read(texts, recipe) == {
        "optimizer.learning_rate": Range(low=1e-4, high=0.1, log=True),
        "epochs": Range(low=1, high=9, whole=True),
        "optimizer.name": Range(choices=("adam", "rmsprop")),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "expected PATH=LOW..HIGH"),
        ("epochs=a..b", "expected two numbers"),
        ("epochs=9..1", "expected LOW below HIGH"),
        ("optimizer.learning_rate=0..1:log", "both above 0 with :log"),
        ("epochs=1..9:ln", "the only scale beside none"),
        ("epochs=0..9", "--epochs 0: it should be greater than or equal to 1"),
        ("epocs=1..9", "mnist-mlp has no epocs to choose; did you mean epochs"),
        ("loss=mse,mean_squared_error", "--set loss mse: it should be"),
    ],
)
def test_a_range_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        search_space.read([text], zoo.find("mnist-mlp"))
    assert message in str(raised.value)


@pytest.mark.slow
def test_by_default_a_networks_rate_batch_decay_and_dropout_are_tried() -> None:
    recipe = zoo.find("mnist-mlp")
    found = search_space.default(recipe, datasets.load("mnist", TINY))
    assert found["optimizer.learning_rate"] == Range(low=1e-4, high=1e-2, log=True)
    assert found["batch_size"] == Range(choices=("64", "128", "256"))
    assert found.keys() - {"optimizer.learning_rate", "batch_size"} == {
        "optimizer.weight_decay",
        "regularization.dropout",
    }


def test_without_the_extra_the_command_names_it(pixelserve: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    original = extras.importlib.import_module

    def missing(name: str) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return original(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    ran = pixelserve("tune", "mnist-mlp")
    assert ran.exit_code == 3
    assert "needs the library optuna" in ran.err
    assert "[tune]" in ran.err
