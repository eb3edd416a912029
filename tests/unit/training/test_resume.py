"""Interrupted and resumed runs: the real command on the synthetic data set, which has one step per epoch."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks, learners, zoo
from pixelserve_training.errors import DivergedError, RunInterruptedError
from pixelserve_training.learners import boosting, keeping, members, network, stopping
from pixelserve_training.progress import TrainingProgress
from pixelserve_training.recipe import Ensemble, KerasRecipe, Optimizer, Regularization
from pixelserve_training.running import fit, resume, runs
from pixelserve_training.running.checkpoint import Best, Checkpoint, State
from pixelserve_training.running.cross_validation import CrossValidation
from pixelserve_training.running.resume import Request
from pixelserve_training.zoo import blocks

Command = Callable[..., Any]
At = Callable[[int, Callable[[], None]], None]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def do_at(patch: pytest.MonkeyPatch, epoch: int, act: Callable[[], None]) -> None:
    """Does something in the middle of an epoch, counted from 1, once."""
    original = TrainingProgress.end_step

    def end_step(self: TrainingProgress, now: int, step: int, figures: dict[str, float]) -> None:
        original(self, now, step, figures)
        if now + 1 == epoch:
            patch.setattr(TrainingProgress, "end_step", original)
            act()

    patch.setattr(TrainingProgress, "end_step", end_step)


@pytest.fixture
def at_epoch(monkeypatch: pytest.MonkeyPatch) -> At:
    return partial(do_at, monkeypatch)


@pytest.fixture
def train(pixelserve: Command, data_dir: Path, tmp_path: Path) -> Command:
    """Runs `pixelserve train mnist-cnn` with further arguments; the run's folder is tmp_path/run."""

    def run(*arguments: object) -> Any:
        return pixelserve("train", "mnist-cnn", "--data-dir", data_dir, "--run-dir", tmp_path / "run", *arguments)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("small_in_zoo")
def test_an_interrupted_run_is_kept_and_resumed(train: Command, at_epoch: At, tmp_path: Path, data_dir: Path) -> None:
    """Timeline: 1. the third of four epochs is under way; 2. the signal; 3. two epochs are kept; 4. --resume alone
    brings the other two, and the run."""
    at_epoch(3, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train("--epochs", 4, "--lr", 0.01)
    partial = tmp_path / "run.partial"
    assert stopped.exit_code == 130
    assert "the run was stopped; epoch 2 of 4 is saved, and the best one: accuracy" in stopped.err
    assert f"{partial}/best-epoch-2.keras" in stopped.err
    assert f"pixelserve train mnist-cnn --data-dir {data_dir} --run-dir {tmp_path}/run --resume" in stopped.err
    assert names(tmp_path) == ["run.partial"]
    assert names(partial) == ["best-epoch-2.keras", "epoch-2.weights.h5", "state.json"]
    assert frameworks.load().keras.saving.load_model(partial / "best-epoch-2.keras").count_params() == 6_370

    resumed = train("--resume")
    assert resumed.exit_code == 0, resumed.err
    assert "continuing after epoch 2 of 4" in resumed.err
    assert names(tmp_path) == ["run"]
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["loss"]) == 4
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["learner"]["epochs"], settings["learner"]["optimizer.learning_rate"]) == (4, 0.01)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("small_in_zoo")
def test_a_resumed_run_has_the_figures_of_its_cross_validation(
    train: Command, at_epoch: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "cross_validate", lambda *_: CrossValidation((0.5, 0.7)))
    at_epoch(2, lambda: signal.raise_signal(signal.SIGINT))
    assert train("--epochs", 2, "--folds", 2).exit_code == 130
    monkeypatch.setattr(fit, "cross_validate", lambda *_: pytest.fail("it was done again"))
    resumed = train("--resume")
    assert resumed.exit_code == 0, resumed.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["cross_validation"]["accuracies"] == [0.5, 0.7]


@pytest.mark.usefixtures("small_in_zoo")
def test_a_run_stopped_before_its_first_epoch_is_over_leaves_nothing(
    train: Command, at_epoch: At, tmp_path: Path
) -> None:
    at_epoch(1, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train("--tensorboard")
    assert stopped.exit_code == 130
    assert "the run was stopped; nothing is saved" in stopped.err
    assert names(tmp_path) == []


@pytest.fixture(scope="module")
def stopped_in_epoch_2(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        do_at(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(RunInterruptedError):
            fit.train("mnist-cnn", data_dir=data_dir, run_dir=run, overrides={"epochs": 2})
    return run.with_name("run.partial")


@pytest.fixture
def interrupted(stopped_in_epoch_2: Path, tmp_path: Path) -> Path:
    """A run of two epochs that was stopped in the second; returns its checkpoint's folder."""
    return Path(shutil.copytree(stopped_in_epoch_2, tmp_path / "run.partial"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--epochs", 3), "was started with epochs 2, not 3"),
        (("--batch-size", 32), "was started with batch_size 64, not 32"),
        (("--lr", 0.5), "was started with optimizer.learning_rate 0.001, not 0.5"),
        (("--seed", 7), "was started with seed 0, not 7"),
    ],
)
def test_other_settings_than_the_interrupted_runs_are_refused(
    train: Command, interrupted: Path, options: tuple[object, ...], said: str
) -> None:
    before = names(interrupted)
    ran = train("--resume", *options)
    assert ran.exit_code == 2
    assert said in ran.err
    assert names(interrupted) == before


def test_a_zero_is_an_option_that_is_given() -> None:
    kept = Request({"seed": 7, "epochs": 3, "dropout": 0.5}, tensorboard=True)
    given = resume.completed(Request({"seed": 0, "dropout": 0.0}), kept)
    assert given == Request({"seed": 0, "epochs": 3, "dropout": 0.0}, tensorboard=True)


def test_other_data_than_the_interrupted_runs_are_refused(
    pixelserve: Command, make_idx: Callable[..., Path], interrupted: Path, tmp_path: Path
) -> None:
    other = make_idx(tmp_path / "other", test=40)
    ran = pixelserve("train", "mnist-cnn", "--data-dir", other, "--run-dir", tmp_path / "run", "--resume")
    assert ran.exit_code == 2
    assert "was started with dataset_sha256" in ran.err


def test_an_unfinished_run_is_not_overwritten(train: Command, interrupted: Path) -> None:
    ran = train()
    assert ran.exit_code == 2
    assert "run.partial holds an unfinished run; continue it with --resume" in ran.err


def test_a_folder_without_a_state_is_not_overwritten(train: Command, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    ran = train()
    assert ran.exit_code == 2
    assert "run.partial exists already, without a state to resume" in ran.err


def test_resume_needs_the_runs_folder(pixelserve: Command) -> None:
    assert "with --run-dir" in pixelserve("train", "mnist-cnn", "--resume").err


@pytest.mark.usefixtures("small_in_zoo")
def test_resume_starts_a_run_and_keeps_a_finished_one(train: Command, tmp_path: Path) -> None:
    """As a job repeats its command; what a killed run left without a state is removed."""
    (tmp_path / "run.partial").mkdir()
    started = train("--epochs", 1, "--resume")
    assert started.exit_code == 0, started.err
    assert names(tmp_path) == ["run"]
    before = (tmp_path / "run" / "model.keras").stat().st_mtime_ns
    repeated = train("--epochs", 1, "--resume", "--json")
    assert repeated.exit_code == 0, repeated.err
    assert "is finished; nothing is trained" in repeated.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert json.loads(repeated.out)["accuracy"] == metrics["training"]["metrics"]["accuracy"]
    assert (tmp_path / "run" / "model.keras").stat().st_mtime_ns == before
    other = train("--epochs", 2, "--resume")
    assert other.exit_code == 2
    assert "was started with epochs 1, not 2" in other.err


def test_a_damaged_state_is_named(train: Command, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "state.json").write_text("{}")
    ran = train("--resume")
    assert ran.exit_code == 2
    assert "state.json is damaged (Field required); remove" in ran.err


def test_damaged_weights_are_named(train: Command, interrupted: Path) -> None:
    (interrupted / "epoch-1.weights.h5").write_bytes(b"no weights")
    ran = train("--resume")
    assert ran.exit_code == 2
    assert "epoch-1.weights.h5 is damaged" in ran.err
    assert "Traceback" not in ran.err


def test_a_resumed_run_that_diverges_leaves_what_was_kept(train: Command, at_epoch: At, interrupted: Path) -> None:
    def diverge() -> None:
        raise DivergedError(epoch=2, step=1)

    before = names(interrupted)
    at_epoch(2, diverge)
    ran = train("--resume")
    assert ran.exit_code == 1
    assert "step 1 of epoch 2" in ran.err
    assert "epoch 1 of 2 is saved" in ran.err
    assert names(interrupted) == before
    assert names(interrupted.parent) == ["run.partial"]


def test_a_disk_that_is_full_in_mid_run_leaves_the_epoch_before(
    train: Command, at_epoch: At, tmp_path: Path, small_files: Callable[..., Any]
) -> None:
    with contextlib.ExitStack() as until_the_end:
        at_epoch(2, lambda: until_the_end.enter_context(small_files(100_000)))
        ran = train("--epochs", 3)
    assert ran.exit_code == 1
    assert "run.partial cannot be written: File too large" in ran.err
    assert "epoch 1 of 3 is saved" in ran.err
    assert names(tmp_path) == ["run.partial"]
    assert names(tmp_path / "run.partial") == ["best-epoch-1.keras", "epoch-1.weights.h5", "state.json"]


def test_a_disk_that_is_full_in_the_end_costs_no_epoch(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_files: Callable[..., Any]
) -> None:
    original = runs.write

    def write(*arguments: Any) -> None:
        with small_files(100_000):
            original(*arguments)

    monkeypatch.setattr(runs, "write", write)
    ran = train("--epochs", 1)
    assert ran.exit_code == 1
    assert "run cannot be written: File too large" in ran.err
    assert "epoch 1 of 1 is saved" in ran.err
    assert names(tmp_path) == ["run.partial"]
    monkeypatch.setattr(runs, "write", original)
    resumed = train("--resume")
    assert resumed.exit_code == 0, resumed.err
    assert "epoch 1/1" not in resumed.err
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("bagging", ["member-1"]),
        ("boosting", ["member-1"]),
        ("stacking", ["member-1-fold-1", "member-1-fold-2"]),
    ],
)
def test_an_interrupted_ensemble_goes_on_with_the_model_that_was_under_way(
    train: Command,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_in_zoo: KerasRecipe,
    kind: Any,
    kept: list[str],
) -> None:
    """Timeline: 1. some models are trained, and the next one is under way; 2. the signal; 3. --resume trains that one
    and those behind it; 4. the ensemble equals that of an uninterrupted run."""
    # Fewer folds than by default, for a shorter test.
    options = ("--ensemble", kind, "--members", 2, "--set", "ensemble.folds=2", "--epochs", 1)
    reweight = boosting.reweight
    # What learned one step of noise may be worse than guessing, where boosting would end.
    monkeypatch.setattr(boosting, "reweight", lambda *given: replace(reweight(*given), vote=1.0))
    trained: list[int] = []
    original = members.train

    def counted(*arguments: Any) -> Any:
        if len(trained) == len(kept):
            signal.raise_signal(signal.SIGINT)
        trained.append(len(trained))
        return original(*arguments)

    monkeypatch.setattr(members, "train", counted)
    stopped = train(*options)
    assert stopped.exit_code == 130
    assert f"{', '.join(kept)}: trained and saved in {tmp_path}/run.partial; continue with: " in stopped.err
    assert names(tmp_path / "run.partial") == sorted([*(f"{name}.keras" for name in kept), "state.json"])

    monkeypatch.setattr(members, "train", lambda *arguments: (trained.append(-1), original(*arguments))[1])
    resumed = train("--resume")
    assert resumed.exit_code == 0, resumed.err
    assert "member-1" in resumed.err
    assert len(trained) == (6 if kind == "stacking" else 2)
    assert names(tmp_path) == ["run"]
    recipe = replace(small_in_zoo, ensemble=Ensemble(kind, members=2, folds=2))
    undisturbed = learners.fit(recipe, datasets.load("mnist", data_dir))
    weights = frameworks.load().keras.saving.load_model(tmp_path / "run" / "model.keras").get_weights()
    for ours, theirs in zip(weights, undisturbed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "run" / "history.json").read_text()) == undisturbed.history


def test_a_kept_member_that_is_damaged_is_named(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_in_zoo: KerasRecipe
) -> None:
    monkeypatch.setattr(members, "join", lambda *_: signal.raise_signal(signal.SIGINT))
    assert train("--ensemble", "bagging", "--members", 2, "--epochs", 1).exit_code == 130
    (tmp_path / "run.partial" / "member-2.keras").write_bytes(b"half")
    resumed = train("--resume")
    assert (resumed.exit_code, "member-2.keras is damaged" in resumed.err) == (2, True), resumed.err
    assert names(tmp_path / "run.partial") == ["member-1.keras", "member-2.keras", "state.json"]


def test_logs_are_of_a_single_network(train: Command, pixelserve: Command, tmp_path: Path) -> None:
    ensemble = train("--ensemble", "bagging", "--members", 2, "--tensorboard")
    other = pixelserve("train", "numpy-and", "--run-dir", tmp_path / "run", "--tensorboard")
    for ran in (ensemble, other):
        assert ran.exit_code == 2
        assert "--tensorboard shows a single network" in ran.err


@pytest.mark.usefixtures("small_in_zoo")
def test_logs_for_tensorboard_go_on_with_the_run(train: Command, at_epoch: At, tmp_path: Path) -> None:
    at_epoch(2, lambda: signal.raise_signal(signal.SIGINT))
    train("--epochs", 3, "--tensorboard")
    assert names(tmp_path / "run.partial" / "tensorboard") == ["train"]
    ran = train("--resume")
    assert ran.exit_code == 0, ran.err
    events = frameworks.load().tf.compat.v1.train.summary_iterator
    logged = [
        event.step
        for path in (tmp_path / "run" / "tensorboard" / "train").iterdir()
        for event in events(str(path))
        for value in event.summary.value
        if value.tag == "epoch_loss"
    ]
    assert sorted(logged) == [0, 1, 2]


def _mixed(**changes: Any) -> KerasRecipe:
    """A recipe of mixed precision with augmentation, whose batch normalisation is a class of its own."""

    def build(classes: int) -> Any:
        keras = frameworks.load().keras
        image = keras.Input((28, 28, 1), dtype="uint8", name="image")
        features = blocks.convolution(keras.layers.Rescaling(1 / 255)(image), 4)
        last = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")
        return keras.Model(image, last(keras.layers.GlobalAveragePooling2D()(features)))

    def augmentation() -> list[Any]:
        return [frameworks.load().keras.layers.RandomFlip("horizontal")]

    momentum = Optimizer("sgd", 0.1, "cosine", averaging=0.9, options={"momentum": 0.9})
    values = {"precision": "mixed_bfloat16", "optimizer": momentum, "epochs": 2, **changes}
    return replace(zoo.find("mnist-cnn"), build=build, augmentation=augmentation, **values)


@pytest.fixture(scope="module")
def finished_mixed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, network.Network]:
    settings = runs.Settings(recipe="mixed", seed=0, dataset="MNIST", dataset_sha256="")
    checkpoint = Checkpoint(tmp_path_factory.mktemp("mixed") / "run", State(settings=settings, request={}))
    return checkpoint, network.fit(_mixed(), datasets.load("mnist", data_dir), checkpoint)


@pytest.fixture
def kept_mixed(finished_mixed: tuple[Checkpoint, network.Network]) -> Iterator[tuple[Checkpoint, network.Network]]:
    """A run of mixed precision of two epochs, all of it kept, and what it comes to."""
    checkpoint, _ = finished_mixed
    before = checkpoint.state
    yield finished_mixed
    checkpoint.state = before


def test_a_network_of_mixed_precision_is_restored_with_its_optimizer(
    kept_mixed: tuple[Checkpoint, network.Network], data_dir: Path
) -> None:
    checkpoint, _ = kept_mixed
    learner = network._learner(_mixed(), 10)
    learner.compile(64)
    keeping.restore(learner.augmented, checkpoint)
    optimizer = learner.augmented.optimizer
    assert int(optimizer.iterations) == 2
    # Momentum and averages are no zeros any more.
    assert all(np.any(variable.numpy()) for variable in optimizer.variables)


def test_the_best_model_is_what_the_run_would_have_ended_with(kept_mixed: tuple[Checkpoint, network.Network]) -> None:
    checkpoint, trained = kept_mixed
    assert checkpoint.state.best is not None
    assert checkpoint.state.best.epoch == 2
    best = frameworks.load().keras.saving.load_model(checkpoint.best_model)
    assert {layer.dtype_policy.name for layer in best.layers if layer.weights} == {"float32"}
    for kept, ended in zip(best.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, ended)


def test_early_stopping_counts_the_epochs_before_the_interruption(
    kept_mixed: tuple[Checkpoint, network.Network],
) -> None:
    """Timeline: 1. the second epoch was the best; 2. the third and the fourth were not; 3. the run continues."""
    checkpoint, trained = kept_mixed
    best = Best(epoch=2, name="val_loss", figure=0.5)
    checkpoint.state = checkpoint.state.model_copy(update={"epochs": 4, "best": best})
    patient = _mixed(regularization=Regularization(patience=3))
    *_, stopper = stopping.callbacks(patient, checkpoint)
    stopper.on_train_begin()
    assert (stopper.best, stopper.best_epoch, stopper.wait) == (0.5, 1, 2)
    for kept, ended in zip(stopper.best_weights, trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, ended)
    assert not stopping.is_over(patient, checkpoint)
    assert stopping.is_over(_mixed(regularization=Regularization(patience=2)), checkpoint)


def test_keeping_a_run_changes_none_of_its_weights(
    kept_mixed: tuple[Checkpoint, network.Network], data_dir: Path
) -> None:
    _, kept = kept_mixed
    unkept = learners.fit(_mixed(), datasets.load("mnist", data_dir))
    for first, second in zip(kept.model.get_weights(), unkept.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_process_that_is_terminated_keeps_its_run(data_dir: Path, tmp_path: Path) -> None:
    """Timeline: 1. the second epoch is over; 2. SIGTERM; 3. the process says what it kept, and exits with 130."""
    command = [sys.executable, "-m", "pixelserve", "train", "mnist-cnn", "--epochs", "1000000", "--run-dir", "run"]
    command += ["--data-dir", str(data_dir)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(line.startswith("epoch 2/") for line in process.stderr)
            process.terminate()
            said = process.stderr.read()
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert "the run was stopped; epoch" in said
    assert names(tmp_path) == ["run.partial"]
