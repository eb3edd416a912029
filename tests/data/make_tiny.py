"""Writes tests/data/tiny: the first images of each class of the three image data sets, in their official formats.

python tests/data/make_tiny.py DIR    # DIR holds mnist/, fashion-mnist/ and cifar-10-batches-bin/
"""

import gzip
import sys
from pathlib import Path

import numpy as np

from pixelserve_training import datasets
from pixelserve_training.datasets import Split, idx

TARGET = Path(__file__).parent / "tiny"
TRAIN_PER_CLASS, TEST_PER_CLASS = 20, 10
CIFAR10_FILES = 5


def main(source: Path) -> None:
    for name in ("mnist", "fashion-mnist"):
        dataset = datasets.load(name, source)
        for prefix, split, count in (
            ("train", dataset.train, TRAIN_PER_CLASS),
            ("t10k", dataset.test, TEST_PER_CLASS),
        ):
            few = first_of_each_class(split, count)
            write_gzip(TARGET / name / f"{prefix}-images-idx3-ubyte.gz", idx.encode(few.inputs[..., 0]))
            write_gzip(TARGET / name / f"{prefix}-labels-idx1-ubyte.gz", idx.encode(few.targets))
    cifar10 = datasets.load("cifar10", source)
    train = records(first_of_each_class(cifar10.train, TRAIN_PER_CLASS))
    folder = TARGET / "cifar-10-batches-bin"
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.split(train, CIFAR10_FILES), start=1):
        part.tofile(folder / f"data_batch_{number}.bin")
    records(first_of_each_class(cifar10.test, TEST_PER_CLASS)).tofile(folder / "test_batch.bin")


def first_of_each_class(split: Split, count: int) -> Split:
    chosen = [np.flatnonzero(split.targets == label)[:count] for label in range(10)]
    return split.take(np.sort(np.concatenate(chosen)))


def records(split: Split) -> np.ndarray:
    return np.concatenate([split.targets[:, None], split.inputs.transpose(0, 3, 1, 2).reshape(len(split), -1)], axis=1)


def write_gzip(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
