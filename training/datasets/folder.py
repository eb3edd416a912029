"""A user's own pictures as a data set: a folder with one subfolder per class, named after its label.

The test split is a fifth of each class: the pictures whose files' SHA-256 hashes come first. So it is stable when files
are renamed, changes little when pictures are added, and copies of a picture are in the same split, except at its edge.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelserve.imaging.decode import MAX_PIXELS, decode_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.files import SUFFIXES, Finder, is_of_system
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

from ..errors import DataError, UsageError
from ..progress import say, tracked
from .dataset import Array, Dataset, Split

TEST_SHARE = 0.2
NOTE = "the user's own pictures; the test split is a fixed fifth of each class"

# Usual names of data sets' splits.
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing", "holdout")
# The ratio of class sizes from which they are reported as unbalanced.
_UNEVEN = 10
_NAMED = 3

Shape = tuple[int, int, int]
"""Height, width and channels; 1: grey, 3: red, green, blue."""


@dataclass(frozen=True)
class _Picture:
    path: Path
    label: int
    sha256: str
    pixels: Array


def load(root: Path, shape: Shape, *, skip_broken: bool) -> Dataset:
    """Loads the pictures in a folder's subfolders, at any depth, in a network's format.

    Files of operating systems (._NAME, .DS_Store, Thumbs.db) are skipped; links to folders are not followed.

    Args:
        root: the folder.
        shape: the network's input shape.
        skip_broken: whether to skip unreadable pictures.

    Raises:
        UsageError: the folder does not exist.
        DataError: it has fewer than two classes, a class has too few pictures, or a picture cannot be read.
    """
    classes = _classes(root)
    files = [(path, label) for label, folder in enumerate(classes) for path in _pictures_in(folder)]
    pictures = _read(files, shape, skip_broken=skip_broken)
    _say_what_is_odd(pictures, classes)
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
    if not root.exists():
        raise UsageError(f"--images {root}: no such folder; give one that holds a folder of pictures for each class")
    if not root.is_dir():
        raise UsageError(f"--images {root} is a file; give a folder that holds a folder of pictures for each class")
    entries = [entry for entry in _listed(root) if not is_of_system(entry.name)]
    folders = [entry for entry in entries if entry.is_dir()]
    _refuse_splits(root, folders)
    if len(folders) < 2:
        found = f"one folder in it ({folders[0].name})" if folders else "no folders in it"
        raise DataError(f"--images {root}: {found}; expected one for each class, at least two, named after the classes")
    for folder in folders:
        # Labels become lines of labels.txt.
        if not folder.name.isprintable():
            raise DataError(f"--images {root}: the folder {folder.name!a} cannot be a label; rename it")
    if loose := sum(entry.is_file() for entry in entries):
        say(f"note: {loose:,} files directly in {root} are ignored: they are not in a class's folder")
    return folders


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error


def _refuse_splits(root: Path, folders: Sequence[Path]) -> None:
    """Refuses a data set in splits, because a network would learn to tell the splits apart."""
    splits = [folder for folder in folders if folder.name.lower() in _SPLITS]
    if not splits or (len(splits) == 1 and len(folders) > 1):
        return
    first = next((folder for folder in splits if folder.name.lower().startswith("train")), splits[0])
    raise DataError(
        f"--images {root}: {', '.join(folder.name for folder in splits)} are a data set's splits, not classes; "
        f"give one, --images {first}, of which a fifth is held out as the test split, or put all pictures of a "
        f"class into one folder"
    )


def _pictures_in(folder: Path) -> list[Path]:
    finder = Finder()
    try:
        pictures = list(finder.pictures(folder))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    skipped = finder.skipped()
    if not pictures:
        raise DataError(
            f"{folder}: no pictures in it ({skipped or 'it is empty'}); expected names that end in "
            f"{', '.join(SUFFIXES)}: put some there, or remove the folder"
        )
    if skipped:
        say(f"note: skipped in {folder}: {skipped}")
    return pictures


def _read(files: Sequence[tuple[Path, int]], shape: Shape, *, skip_broken: bool) -> list[_Picture]:
    # As in the server, but without inversion.
    spec = PictureSpec(*shape)
    pictures, broken, is_forbidden = [], [], False
    for path, label in tracked(files, "reading pictures"):
        try:
            content = path.read_bytes()
            pixels = prepare(decode_file(content, MAX_PIXELS), spec)
            pictures.append(_Picture(path, label, hashlib.sha256(content).hexdigest(), pixels))
        except ImageError as error:
            broken.append(f"{path} ({error})")
        except OSError as error:
            broken.append(f"{path} ({error.strerror})")
            is_forbidden |= isinstance(error, PermissionError)
    if not broken:
        return pictures
    named = ", ".join(broken[:_NAMED]) + (", …" if len(broken) > _NAMED else "")
    if not skip_broken:
        rights = " (check the permissions)" if is_forbidden else ""
        raise DataError(
            f"{len(broken):,} of {len(files):,} pictures cannot be read: {named}; repair{rights} or remove them, or "
            f"skip them with --skip-broken"
        )
    say(f"skipped {len(broken):,} of {len(files):,} pictures, which cannot be read: {named}")
    return pictures


def _say_what_is_odd(pictures: Sequence[_Picture], classes: Sequence[Path]) -> None:
    """Reports pictures in several classes and unbalanced classes, because both cost accuracy."""
    firsts: dict[bytes, _Picture] = {}
    doubles = []
    for picture in pictures:
        first = firsts.setdefault(hashlib.sha256(picture.pixels.tobytes()).digest(), picture)
        if first.label != picture.label:
            doubles.append(f"{first.path} and {picture.path}")
    if doubles:
        named = ", ".join(doubles[:_NAMED]) + (", …" if len(doubles) > _NAMED else "")
        say(f"note: {len(doubles):,} pictures are in two classes, or look the same at the network's size: {named}")
    sizes = Counter(classes[picture.label].name for picture in pictures)
    (largest, most), (smallest, fewest) = sizes.most_common()[0], sizes.most_common()[-1]
    if most >= _UNEVEN * fewest:
        say(
            f"note: {largest} has {most:,} pictures and {smallest} has {fewest:,}: always predicting {largest} is "
            f"right {most / len(pictures):.0%} of the time; add pictures to the smaller classes, and look at each "
            f"class's recall"
        )


def _split(pictures: Sequence[_Picture], classes: Sequence[Path]) -> tuple[list[_Picture], list[_Picture]]:
    """Returns the pictures to learn from, and those of the test split."""
    train: list[_Picture] = []
    test: list[_Picture] = []
    for label, folder in enumerate(classes):
        of_class = sorted((picture for picture in pictures if picture.label == label), key=lambda each: each.sha256)
        if len(of_class) < 2:
            raise DataError(
                f"{folder}: {len(of_class)} readable pictures; expected at least 2, one to train and one "
                f"to measure with, better dozens: add some, or remove the folder"
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
        # Reshuffled for each number of pictures, most held-out samples would have been learned before the folder
        # grew, and a new version could not be compared with an older one.
        np.array(sorted(range(len(pictures)), key=lambda index: pictures[index].sha256)),
    )


def _fingerprint(pictures: Sequence[_Picture], root: Path) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(os.fsencode(picture.path.relative_to(root)))
        digest.update(picture.sha256.encode())
    return digest.hexdigest()
