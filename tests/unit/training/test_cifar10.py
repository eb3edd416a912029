"""CIFAR-10's binary files, as their authors describe them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks
from pixelserve_training.errors import DataError

RECORD_BYTES = 3073


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The six files in `cifar-10-batches-bin`, of four images each: random pixels, labels 0 to 3."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = random.integers(0, 256, (4, RECORD_BYTES), dtype=np.uint8)
        records[:, 0] = range(4)
        records.tofile(folder / name)
    return folder


def test_a_record_is_a_label_and_three_planes(folder: Path) -> None:
    records = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(4, RECORD_BYTES)
    dataset = datasets.load("cifar10", folder.parent)
    assert dataset.train.inputs.shape == (20, 32, 32, 3)
    assert dataset.test.targets.tolist() == [0, 1, 2, 3]
    green_of_row_2_column_5 = records[1, 1 + 1024 + 2 * 32 + 5]
    assert dataset.test.inputs[1, 2, 5, 1] == green_of_row_2_column_5


def test_the_files_may_lie_in_the_data_dir_itself(folder: Path) -> None:
    assert datasets.load("cifar10", folder).sha256 == datasets.load("cifar10", folder.parent).sha256


def test_keras_download_gives_the_same_hash_as_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = datasets.load("cifar10", folder)
    splits = [(split.inputs, split.targets[:, np.newaxis]) for split in (files.train, files.test)]
    keras = SimpleNamespace(datasets=SimpleNamespace(cifar10=SimpleNamespace(load_data=lambda: splits)))
    monkeypatch.setattr(frameworks, "load", lambda: SimpleNamespace(keras=keras, tf=np))
    assert datasets.load("cifar10", None).sha256 == files.sha256


def test_files_that_no_figure_was_measured_on_are_noted(folder: Path) -> None:
    assert "not the files" in datasets.load("cifar10", folder).note


def _truncate(content: bytes) -> bytes:
    return content[:-100]


def _drop_a_record(content: bytes) -> bytes:
    return content[:-RECORD_BYTES]


def _wrong_label(content: bytes) -> bytes:
    return b"\x0a" + content[1:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "data_batch_3.bin: 12192 bytes, expected a multiple of 3073; .*download it again"),
        (_drop_a_record, "the five training files hold 4, 4, 3, 4, 4 images, expected equally many"),
        (_wrong_label, "data_batch_3.bin: a label is 10, CIFAR-10 has 10 classes"),
        (lambda _: b"", "data_batch_3.bin: 0 bytes"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(folder: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = folder / "data_batch_3.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        datasets.load("cifar10", folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin missing; put .* into DIR/cifar-10-batches-bin"):
        datasets.load("cifar10", folder)
