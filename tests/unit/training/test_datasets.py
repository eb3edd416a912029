import gzip
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pixelserve_training import datasets, frameworks
from pixelserve_training.datasets import idx
from pixelserve_training.errors import DataError, UsageError

MakeIdx = Callable[..., Path]
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"


def test_gzipped_and_plain_files_hold_the_same_data_set(make_idx: MakeIdx, tmp_path: Path) -> None:
    gzipped = datasets.load("mnist", make_idx(tmp_path / "a" / "mnist").parent)
    plain = datasets.load("mnist", make_idx(tmp_path / "b" / "mnist", compressed=False).parent)
    assert gzipped.train.inputs.shape == (64, 28, 28, 1)
    assert gzipped.test.targets.tolist() == [index % 10 for index in range(32)]
    assert gzipped.sha256 == plain.sha256


def test_files_may_lie_in_the_data_dir_itself(make_idx: MakeIdx, tmp_path: Path) -> None:
    assert len(datasets.load("mnist", make_idx(tmp_path)).test.targets) == 32


def test_keras_download_gives_the_same_hash_as_the_files(
    make_idx: MakeIdx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = datasets.load("mnist", make_idx(tmp_path))
    splits = [(split.inputs[..., 0], split.targets) for split in (files.train, files.test)]
    _replace_downloader(monkeypatch, lambda: splits)
    assert datasets.load("mnist", None).sha256 == files.sha256


def test_other_files_than_the_official_ones_are_noted(make_idx: MakeIdx, tmp_path: Path) -> None:
    assert "not the official MNIST files" in datasets.load("mnist", make_idx(tmp_path)).note


def test_without_files_or_download_one_sentence_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure")

    _replace_downloader(monkeypatch, fail)
    with pytest.raises(DataError) as raised:
        datasets.load("mnist", tmp_path)
    message = str(raised.value)
    assert TRAIN_IMAGES in message
    assert "--data-dir" in message
    assert "PIXELSERVE_DATA_DIR" in message
    assert "\n" not in message


def test_a_data_dir_that_does_not_exist_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        datasets.load("mnist", tmp_path / "typo")


def test_a_missing_file_is_named(make_idx: MakeIdx, tmp_path: Path) -> None:
    (make_idx(tmp_path) / TRAIN_IMAGES).unlink()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} missing"):
        datasets.load("mnist", tmp_path)


def _truncate_gzip(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _truncate_inside(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content)[:-100])


def _flip_bits(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 50]) + content[middle + 50 :]


def _other_magic(content: bytes) -> bytes:
    return gzip.compress(b"\x00\x00\x0d\x03" + gzip.decompress(content)[4:])


@pytest.mark.parametrize("damage", [_truncate_gzip, _truncate_inside, _flip_bits, _other_magic, lambda _: b""])
def test_a_damaged_file_is_named_with_the_remedy(
    make_idx: MakeIdx, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = make_idx(tmp_path) / TRAIN_IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES}: .*download (it|the file) again"):
        datasets.load("mnist", tmp_path)


def test_images_and_labels_of_different_number_are_refused(make_idx: MakeIdx, tmp_path: Path) -> None:
    short = make_idx(tmp_path / "short", train=10)
    path = make_idx(tmp_path / "long") / "train-labels-idx1-ubyte.gz"
    path.write_bytes((short / path.name).read_bytes())
    with pytest.raises(DataError, match="64 images with 10 labels"):
        datasets.load("mnist", path.parent)


def test_a_label_beyond_the_classes_is_refused(make_idx: MakeIdx, tmp_path: Path) -> None:
    path = make_idx(tmp_path) / "train-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] = 10
    path.write_bytes(content)
    with pytest.raises(DataError, match="a label is 10"):
        datasets.load("mnist", tmp_path)


def _replace_downloader(monkeypatch: pytest.MonkeyPatch, load_data: Callable[[], object]) -> None:
    keras = SimpleNamespace(datasets=SimpleNamespace(mnist=SimpleNamespace(load_data=load_data)))
    monkeypatch.setattr(frameworks, "load", lambda: SimpleNamespace(keras=keras, tf=np))


def test_images_of_another_size_are_refused(make_idx: MakeIdx, tmp_path: Path) -> None:
    make_idx(tmp_path / "mnist", compressed=False)
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(idx.encode(np.zeros((64, 5, 5), np.uint8)))
    with pytest.raises(DataError, match="images are 5 × 5, MNIST's are 28 × 28"):
        datasets.load("mnist", tmp_path)
