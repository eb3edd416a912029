"""Kaggle's files of MNIST, Fashion-MNIST and CIFAR-10, read in place of the official ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelserve_training.datasets import kaggle, load
from pixelserve_training.errors import DataError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = (np.arange(20) % 10).astype(np.uint8)


def write_table(path: Path, images: np.ndarray = IMAGES, *, first: int = 0, label: str = "label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([label, *(f"pixel{number}" for number in range(first, first + 784))])
        writer.writerows([int(label), *image.ravel().tolist()] for label, image in zip(LABELS, images, strict=True))


@pytest.mark.parametrize(("name", "first"), [("mnist", 0), ("fashion-mnist", 1)])
def test_two_tables_are_the_two_splits(tmp_path: Path, name: str, first: int) -> None:
    write_table(tmp_path / name / f"{name}_train.csv", first=first)
    write_table(tmp_path / name / f"{name}_test.csv", 255 - IMAGES, first=first)
    dataset = load(name, tmp_path)
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], IMAGES)
    np.testing.assert_array_equal(dataset.test.inputs[..., 0], 255 - IMAGES)
    assert dataset.train.targets.tolist() == LABELS.tolist()


def test_a_fifth_of_the_competitions_digits_is_the_test_split_because_its_test_images_have_no_labels(
    tmp_path: Path,
) -> None:
    write_table(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("pixel0\n0\n")
    dataset = load("mnist", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (10, 10)
    assert sorted(dataset.test.targets.tolist()) == list(range(10))
    assert dataset.note == kaggle.NOTE
    learned = {image.tobytes() for image in dataset.train.inputs}
    assert not any(image.tobytes() in learned for image in dataset.test.inputs)
    np.testing.assert_array_equal(load("mnist", tmp_path).test.inputs, dataset.test.inputs)


def test_the_official_files_come_first(tmp_path: Path, root: Path) -> None:
    for path in (root / "tests" / "data" / "tiny" / "mnist").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_table(tmp_path / "train.csv")
    assert len(load("mnist", tmp_path).train) == 200


def test_a_table_of_other_columns_is_explained(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", label="digit")
    with pytest.raises(DataError, match=r"names 785 columns, the first is 'digit'; expected label and 784 pixels"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("row", ["1,2,3", ",".join(["300"] * 785), ",".join(["x"] * 785)])
def test_a_damaged_row_is_explained(tmp_path: Path, row: str) -> None:
    write_table(tmp_path / "train.csv")
    with (tmp_path / "train.csv").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(DataError, match=r"train.csv: "):
        load("mnist", tmp_path)


def test_a_missing_test_table_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "mnist_train.csv")
    with pytest.raises(DataError, match=r"mnist_test.csv is missing beside mnist_train.csv"):
        load("mnist", tmp_path)


def write_cifar(root: Path, *labels: str, size: int = 32) -> Path:
    (root / "train").mkdir(parents=True)
    for number in range(1, len(labels) + 1):
        levels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(levels).save(root / "train" / f"{number}.png")
    rows = [f"{number},{label}" for number, label in enumerate(labels, start=1)]
    (root / "trainLabels.csv").write_text("\n".join(["id,label", *rows]) + "\n")
    return root


def test_the_competitions_cifar_10_is_read_by_its_labels(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar10", *["frog", "truck"] * 5)
    dataset = load("cifar10", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (8, 2)
    assert set(dataset.train.targets.tolist()) == {6, 9}
    first = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    split = [*zip(dataset.train.inputs, dataset.train.targets, strict=True)]
    split += [*zip(dataset.test.inputs, dataset.test.targets, strict=True)]
    assert [label for image, label in split if np.array_equal(image, first)] == [6]
    assert dataset.note == kaggle.NOTE


def test_errors_of_the_competitions_cifar_10_are_explained(tmp_path: Path) -> None:
    write_cifar(tmp_path / "a", "frog", "toad")
    with pytest.raises(DataError, match=r"trainLabels.csv: the label 'toad'; expected one of airplane, "):
        load("cifar10", tmp_path / "a")
    write_cifar(tmp_path / "b", "frog", "truck", size=30)
    with pytest.raises(DataError, match=r"1.png: 30 × 30 pixels, CIFAR-10's are 32 × 32"):
        load("cifar10", tmp_path / "b")
    write_cifar(tmp_path / "c", "frog", "truck")
    (tmp_path / "c" / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2.png: cannot be read"):
        load("cifar10", tmp_path / "c")
    (tmp_path / "c" / "trainLabels.csv").write_text("number,label\n1,frog\n")
    with pytest.raises(DataError, match=r"expected the columns id and label"):
        load("cifar10", tmp_path / "c")
