import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks, zoo
from pixelserve_training.errors import DivergedError, RunInterruptedError, UsageError
from pixelserve_training.learners import network
from pixelserve_training.recipe import Optimizer
from pixelserve_training.running import fit, overrides

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def test_mnist_cnn_has_93322_parameters(keras: Any) -> None:
    model = zoo.find("mnist-cnn").build(10)
    assert model.count_params() == 93_322
    assert model.inputs[0].dtype == "uint8"


def test_mnist_cnn_is_built_for_as_many_classes_as_there_are(keras: Any) -> None:
    assert zoo.find("mnist-cnn").build(3).output_shape == (None, 3)


def test_the_train_command_writes_a_whole_run_folder(pixelserve: Command, data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran = pixelserve("train", "mnist-cnn", "--data-dir", data_dir, "--run-dir", run, "--epochs", 1, "--json")
    assert ran.exit_code == 0, ran.err
    result = json.loads(ran.out)
    assert result["run"] == str(run)
    assert "epoch 1/1" in ran.err
    assert sorted(path.name for path in run.iterdir()) == [
        "figures.json",
        "history.json",
        "metrics.json",
        "model.keras",
        "options.json",
        "pictures",
        "report.html",
        "settings.json",
        "versions.json",
    ]
    assert json.loads((run / "metrics.json").read_text())["validation"]["metrics"]["accuracy"] == result["accuracy"]
    assert len(json.loads((run / "history.json").read_text())["loss"]) == 1


def test_the_seed_alone_decides_the_weights(data_dir: Path, run_folder: Path) -> None:
    recipe = replace(zoo.mnist_cnn.RECIPE, epochs=1)
    same, other = (
        network.fit(replace(recipe, seed=seed), datasets.load("mnist", data_dir)).model.get_weights() for seed in (0, 1)
    )
    run = frameworks.load().keras.saving.load_model(run_folder / "model.keras").get_weights()
    for ours, theirs in zip(run, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(run[0], other[0])


def test_a_run_folder_that_exists_is_refused_before_training(
    pixelserve: Command, data_dir: Path, run_folder: Path
) -> None:
    ran = pixelserve("train", "mnist-cnn", "--data-dir", data_dir, "--run-dir", run_folder)
    assert ran.exit_code == 2
    assert (
        ran.err == f"pixelserve: {run_folder} exists already and is not overwritten; give another place, or remove it\n"
    )


def test_a_folder_that_cannot_be_made_is_refused_before_training(pixelserve: Command) -> None:
    ran = pixelserve("train", "iris", "--run-dir", "/proc/run")
    assert ran.exit_code == 1
    assert ran.err.startswith("pixelserve: /proc/run.partial cannot be written: ")


def test_a_loss_that_is_no_number_stops_the_run_and_writes_nothing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(zoo.mnist_cnn.RECIPE, optimizer=Optimizer(learning_rate=float("nan")))
    monkeypatch.setattr(zoo, "find", lambda _: broken)
    with pytest.raises(DivergedError, match="step 2 of epoch 1") as raised:
        fit.train("mnist-cnn", data_dir=data_dir, run_dir=tmp_path / "run", overrides={"batch_size": 32})
    assert (raised.value.epoch, raised.value.step) == (1, 2)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_last_step_made_no_numbers_stop_the_run_as_well(
    pixelserve: Command, data_dir: Path, tmp_path: Path
) -> None:
    options = ("--data-dir", data_dir, "--run-dir", tmp_path / "run", "--epochs", 1, "--batch-size", 64, "--lr", 1e39)
    ran = pixelserve("train", "mnist-cnn", *options)
    assert ran.exit_code == 1
    assert "became NaN or infinite at step 1 of epoch 1" in ran.err
    assert "try a smaller --lr first" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_the_run_is_written_leaves_what_is_kept_alone(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.runs, "library_versions", interrupt)
    with pytest.raises(RunInterruptedError, match="epoch 1 of 1 is saved"):
        fit.train("mnist-cnn", data_dir=data_dir, run_dir=tmp_path / "run", overrides={"epochs": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]


def test_an_unknown_recipe_gets_the_nearest_names(pixelserve: Command) -> None:
    ran = pixelserve("train", "mnist-cn")
    assert ran.exit_code == 2
    assert "did you mean mnist-cnn" in ran.err


@pytest.mark.parametrize("values", [{"epochs": 0}, {"batch_size": -1}, {"seed": -1}])
def test_a_count_that_cannot_be_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="should be greater than or equal to"):
        overrides.apply(zoo.find("mnist-cnn"), values)
