"""Turns a user's pictures into a data set: in the splits that they came in, else a fifth of each class for testing.

That fifth are the pictures whose files' SHA-256 hashes come first. So it is stable when files are renamed, changes
little when pictures are added, and copies of a picture are in the same split, except at its edge.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...errors import DataError
from ...progress import say
from ..dataset import Array, Dataset, Split
from .listing import named
from .pictures import Pictures

TEST_SHARE = 0.2
NOTE = "the user's own pictures; the test split is a fixed fifth of each class"
NOTE_IN_SPLITS = "the user's own pictures, in the splits that they came in"

# The ratio of class sizes from which they are reported as unbalanced.
_UNEVEN = 3
_IN_WORDS = {"train": "training", "validation": "validation", "test": "test"}


def as_dataset(name: str, source: object, labels: Sequence[str], pictures: Pictures) -> Dataset:
    """Returns pictures as a data set.

    A given validation split is what `hold_out` holds out. Without a test split, the validation split takes its place;
    with neither, a fifth of each class.

    Args:
        name: the data set's name.
        source: the folder or file of the pictures, for messages.
        labels: the classes' names in index order.
        pictures: the pictures.

    Raises:
        DataError: a class has too few pictures, or none in a split.
    """
    _say_what_is_odd(pictures, labels)
    splits = {split: np.flatnonzero([each == split for each in pictures.splits]) for split in _IN_WORDS}
    # Pictures without a split are learned.
    splits["train"] = np.flatnonzero([each in (None, "train") for each in pictures.splits])
    in_splits = bool(len(splits["test"]) or len(splits["validation"]))
    if not len(splits["test"]) and len(splits["validation"]):
        say(f"note: {source} has no test split; its validation split takes that place")
        splits |= {"test": splits["validation"], "validation": splits["test"]}
    if in_splits:
        _check_splits(source, labels, pictures, splits)
        how = "in the splits that they came in"
    else:
        splits["train"], splits["test"] = _cut(source, labels, pictures)
        how = "a fixed fifth of each class"
    say(
        f"{source}: {len(pictures):,} pictures of {len(labels)} classes; {len(splits['test']):,} of them, {how}, "
        f"are held out as the test split"
        + (f", and {len(splits['validation']):,} for validation" if len(splits["validation"]) else "")
    )
    return Dataset(
        name=name,
        task="image",
        labels=tuple(labels),
        train=_split(pictures, labels, np.concatenate([splits["train"], splits["validation"]])),
        test=_split(pictures, labels, splits["test"]),
        sha256=_fingerprint(pictures),
        note=NOTE_IN_SPLITS if in_splits else NOTE,
    )


def _split(pictures: Pictures, labels: Sequence[str], chosen: Array) -> Split:
    smallest = np.min_scalar_type(len(labels) - 1)
    is_held_out = np.array([pictures.splits[index] == "validation" for index in chosen.tolist()])
    return Split(
        pictures.pixels[chosen],
        pictures.labels[chosen].astype(smallest),
        # Reshuffled for each number of pictures, most held-out samples would have been learned before the folder
        # grew, and a new version could not be compared with an older one.
        np.array(sorted(range(len(chosen)), key=lambda index: pictures.sha256[int(chosen[index])])),
        is_held_out if is_held_out.any() else None,
    )


def _cut(source: object, labels: Sequence[str], pictures: Pictures) -> tuple[Array, Array]:
    """Returns the pictures to learn from, and those of the test split."""
    train: list[int] = []
    test: list[int] = []
    for label, title in enumerate(labels):
        of_class = np.flatnonzero(pictures.labels == label).tolist()
        of_class.sort(key=lambda index: pictures.sha256[index])
        if len(of_class) < 2:
            raise DataError(
                f"--images {source}: {title} has {len(of_class)} readable pictures; expected at least 2, one to train "
                f"and one to measure with, better dozens: add some, or remove the class"
            )
        held = max(round(len(of_class) * TEST_SHARE), 1)
        test += of_class[:held]
        train += of_class[held:]
    return np.array(train), np.array(test)


def _check_splits(source: object, labels: Sequence[str], pictures: Pictures, splits: dict[str, Array]) -> None:
    for split, chosen in splits.items():
        missing = sorted(set(range(len(labels))) - set(pictures.labels[chosen].tolist()))
        if missing and len(chosen):
            raise DataError(
                f"--images {source}: no {_IN_WORDS[split]} pictures of {named([labels[index] for index in missing])}; "
                f"expected each class in each split: move some there, or remove the class from all splits"
            )
    if not len(splits["train"]):
        raise DataError(f"--images {source}: no training pictures; expected some in the split train")


def _say_what_is_odd(pictures: Pictures, labels: Sequence[str]) -> None:
    """Reports pictures in several classes or splits, and unbalanced classes, because each falsifies the figures."""
    in_classes, in_splits = _doubles(pictures)
    for doubles, where in ((in_classes, "classes"), (in_splits, "splits")):
        if doubles:
            say(
                f"note: {len(doubles):,} pictures are in two {where}, or look the same at the network's size: "
                f"{named(doubles)}"
            )
    sizes = Counter(labels[label] for label in pictures.labels)
    if not sizes:
        return
    (largest, most), (smallest, fewest) = sizes.most_common()[0], sizes.most_common()[-1]
    if most >= _UNEVEN * fewest:
        say(
            f"note: {largest} has {most:,} pictures and {smallest} has {fewest:,}: always predicting {largest} is "
            f"right {most / len(pictures):.0%} of the time; look at balanced accuracy and each class's recall, "
            f"try --balance weights, or add pictures to the smaller classes"
        )


def _doubles(pictures: Pictures) -> tuple[list[str], list[str]]:
    """Returns pairs of equal pictures in two classes, and in two splits."""
    firsts: dict[bytes, int] = {}
    in_classes, in_splits = [], []
    for index, pixels in enumerate(pictures.pixels):
        first = firsts.setdefault(hashlib.sha256(pixels.tobytes()).digest(), index)
        pair = f"{pictures.names[first]} and {pictures.names[index]}"
        if pictures.labels[first] != pictures.labels[index]:
            in_classes.append(pair)
        if pictures.splits[first] != pictures.splits[index]:
            in_splits.append(pair)
    return in_classes, in_splits


def _fingerprint(pictures: Pictures) -> str:
    digest = hashlib.sha256()
    for identity, sha256 in zip(pictures.identities, pictures.sha256, strict=True):
        digest.update(os.fsencode(identity))
        digest.update(sha256.encode())
    return digest.hexdigest()
