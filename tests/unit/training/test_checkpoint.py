"""An unfinished run's checkpoint, without a network: files, the best epoch, and interrupted writes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelserve_training.errors import WriteError
from pixelserve_training.running.checkpoint import Checkpoint, State
from pixelserve_training.running.runs import Settings

SETTINGS = Settings(recipe="mnist-cnn", seed=0, dataset="MNIST", dataset_sha256="ab", learner={"epochs": 5})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "run", State(settings=SETTINGS, request={}))


def keep(checkpoint: Checkpoint, **figures: float) -> None:
    """Keeps an epoch whose files say which one they are of."""
    text = f"epoch {checkpoint.state.epochs + 1}"
    checkpoint.keep(figures, lambda path: path.write_text(text), lambda path: path.write_text(text))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_there_before_the_first_epoch(checkpoint: Checkpoint) -> None:
    assert not checkpoint.folder.exists()
    assert checkpoint.best_model is None


def test_it_can_be_checked_that_epochs_can_be_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.check_writable()
    assert names(tmp_path) == []
    # The system makes no folders there, not even for root.
    other = Checkpoint(Path("/proc/run"), checkpoint.state)
    with pytest.raises(WriteError, match=r"/proc/run.partial cannot be written: .*; make room, or give another place"):
        other.check_writable()


def test_the_last_epoch_and_the_best_one_are_kept(checkpoint: Checkpoint) -> None:
    for loss in (0.5, 0.1, 0.3):
        keep(checkpoint, loss=loss / 2, val_accuracy=0.5, val_loss=loss)
    assert names(checkpoint.folder) == ["best-epoch-2.keras", "epoch-3.weights.h5", "state.json"]
    assert checkpoint.weights.read_text() == "epoch 3"
    assert str(checkpoint.state.best) == "val_loss 0.1000 in epoch 2"
    assert checkpoint.state.history["val_loss"] == [0.5, 0.1, 0.3]


def test_without_held_out_samples_the_last_epoch_counts_as_the_best(checkpoint: Checkpoint) -> None:
    keep(checkpoint, accuracy=0.9, loss=0.1)
    keep(checkpoint, accuracy=0.5, loss=0.9)
    assert str(checkpoint.state.best) == "accuracy 0.5000 in epoch 2"
    assert names(checkpoint.folder) == ["best-epoch-2.keras", "epoch-2.weights.h5", "state.json"]


def test_what_is_kept_reads_back_as_it_was(checkpoint: Checkpoint) -> None:
    keep(checkpoint, accuracy=0.9, loss=float("inf"))
    assert State.model_validate_json((checkpoint.folder / "state.json").read_bytes()) == checkpoint.state
    assert json.loads((checkpoint.folder / "state.json").read_text())["epochs"] == 1


def _interrupt(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def _fill_the_disk(path: Path) -> None:
    path.write_text("half")
    raise OSError(28, "HDF5 says: no space, buf = 0x55adcd6c45a0")


def _write(path: Path) -> None:
    path.write_text("whole")


@pytest.mark.parametrize(("fail", "error"), [(_interrupt, KeyboardInterrupt), (_fill_the_disk, WriteError)])
@pytest.mark.parametrize("in_best", [False, True])
def test_a_keeping_that_is_stopped_leaves_the_epoch_before_it(
    checkpoint: Checkpoint, fail: Callable[[Path], None], error: type[BaseException], in_best: bool
) -> None:
    keep(checkpoint, val_loss=0.5)
    before = (names(checkpoint.folder), checkpoint.state)
    with pytest.raises(error):
        checkpoint.keep({"val_loss": 0.1}, _write if in_best else fail, fail)
    assert (names(checkpoint.folder), checkpoint.state) == before
    assert checkpoint.weights.read_text() == "epoch 1"


def test_a_full_disk_in_the_first_epoch_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"run.partial cannot be written: No space left on device; make room"):
        checkpoint.keep({"loss": 1.0}, _fill_the_disk, _write)
    assert names(tmp_path) == []


def test_files_that_it_did_not_write_are_left_alone(checkpoint: Checkpoint) -> None:
    keep(checkpoint, loss=1.0)
    (checkpoint.folder / "notes.txt").touch()
    (checkpoint.folder / "tensorboard").mkdir()
    keep(checkpoint, loss=0.5)
    assert names(checkpoint.folder) == [
        "best-epoch-2.keras",
        "epoch-2.weights.h5",
        "notes.txt",
        "state.json",
        "tensorboard",
    ]
