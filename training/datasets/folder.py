"""A user's own pictures as a data set: a folder with one folder for each class, whose name is the class's label.

The test split is a fifth of each class: the pictures whose files' SHA-256 hashes come first. So it stays the same when
files are renamed, moves little when pictures are added, and copies of a picture lie on one side, save at its edge.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, UsageError
from ..progress import say, tracked
from .dataset import Array, Dataset, Split
from .pictures import SUFFIXES, Shape, read

TEST_SHARE = 0.2
NOTE = "the user's own pictures; the test split is a fixed fifth of each class"

_NAMED = 3


@dataclass(frozen=True)
class _Picture:
    path: Path
    label: int
    sha256: str
    pixels: Array


def load(root: Path, shape: Shape, *, skip_broken: bool) -> Dataset:
    """Loads the pictures in a folder's folders, at any depth, as a network takes them.

    Names that begin with a dot are passed over, and links to folders are not followed.

    Args:
        root: the folder.
        shape: the height, width and channels that the network takes.
        skip_broken: whether to leave out pictures that cannot be read.

    Raises:
        UsageError: there is no such folder.
        DataError: it has no two classes, a class has too few pictures, or a picture cannot be read.
    """
    if not root.is_dir():
        raise UsageError(f"--images {root}: no such folder; give one that holds a folder of pictures for each class")
    classes = _classes(root)
    files = [(path, label) for label, folder in enumerate(classes) for path in _pictures_in(folder)]
    pictures = _read(files, shape, skip_broken=skip_broken)
    labels = tuple(folder.name for folder in classes)
    train, test = _split(pictures, classes)
    say(
        f"{root}: {len(pictures):,} pictures of {len(labels)} classes; {len(test):,} of them, a fixed fifth of each "
        f"class, are held out as the test split"
    )
    return Dataset(
        name=root.resolve().name,
        task="image",
        labels=labels,
        train=_as_split(train, labels),
        test=_as_split(test, labels),
        sha256=_fingerprint(pictures, root),
        note=NOTE,
    )


def _classes(root: Path) -> list[Path]:
    """Returns the folders of the classes, by name."""
    entries = [entry for entry in sorted(root.iterdir()) if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    if len(folders) < 2:
        found = f"one folder in it ({folders[0].name})" if folders else "no folders in it"
        raise DataError(f"--images {root}: {found}; expected one for each class, at least two, named after the classes")
    for folder in folders:
        # Labels become lines of labels.txt.
        if not folder.name.isprintable():
            raise DataError(f"--images {root}: the folder {folder.name!a} cannot be a label; rename it")
    if loose := sum(entry.suffix.lower() in SUFFIXES for entry in entries if entry.is_file()):
        say(f"note: {loose:,} pictures in {root} itself are left out: they are in no class's folder")
    return folders


def _pictures_in(folder: Path) -> list[Path]:
    files = list(_files_in(folder))
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    kinds = f"({', '.join(SUFFIXES)})"
    if not pictures:
        raise DataError(f"{folder}: no pictures in it {kinds}; put some there, or remove the folder")
    if others := len(files) - len(pictures):
        say(f"note: {others:,} files in {folder} are left out: their names do not end like pictures' {kinds}")
    return pictures


def _files_in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_in(folder / entry.name)
        # Neither pipes nor devices, which would never end.
        elif entry.is_file():
            yield folder / entry.name


def _read(files: Sequence[tuple[Path, int]], shape: Shape, *, skip_broken: bool) -> list[_Picture]:
    pictures, broken = [], []
    for path, label in tracked(files, "reading pictures"):
        try:
            content = path.read_bytes()
            pictures.append(_Picture(path, label, hashlib.sha256(content).hexdigest(), read(content, shape)))
        except (DataError, OSError) as error:
            broken.append(f"{path} ({error.strerror if isinstance(error, OSError) else error})")
    if not broken:
        return pictures
    named = ", ".join(broken[:_NAMED]) + (", …" if len(broken) > _NAMED else "")
    if not skip_broken:
        raise DataError(
            f"{len(broken):,} of {len(files):,} pictures cannot be read: {named}; repair or remove them, or leave them "
            f"out with --skip-broken"
        )
    say(f"skipped {len(broken):,} of {len(files):,} pictures, which cannot be read: {named}")
    return pictures


def _split(pictures: Sequence[_Picture], classes: Sequence[Path]) -> tuple[list[_Picture], list[_Picture]]:
    """Returns the pictures to learn from, and those of the test split."""
    train: list[_Picture] = []
    test: list[_Picture] = []
    for label, folder in enumerate(classes):
        of_class = sorted((picture for picture in pictures if picture.label == label), key=lambda each: each.sha256)
        if len(of_class) < 2:
            raise DataError(
                f"{folder}: {len(of_class)} pictures that can be read; expected at least 2, one to learn from and one "
                f"to measure with, and better some dozens: add some, or remove the folder"
            )
        held = max(round(len(of_class) * TEST_SHARE), 1)
        test += of_class[:held]
        train += of_class[held:]
    return train, test


def _as_split(pictures: Sequence[_Picture], labels: Sequence[str]) -> Split:
    smallest = np.min_scalar_type(len(labels) - 1)
    return Split(
        np.stack([picture.pixels for picture in pictures]),
        np.array([picture.label for picture in pictures], smallest),
    )


def _fingerprint(pictures: Sequence[_Picture], root: Path) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(os.fsencode(picture.path.relative_to(root)))
        digest.update(picture.sha256.encode())
    return digest.hexdigest()
