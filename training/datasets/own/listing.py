"""A user's pictures before they are read: where each one is, its class and its split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import DataError

SplitName = Literal["train", "validation", "test"]

SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "holdout"), "test"),
}
"""Usual names of splits, in lower case."""

NAMED = 3
"""Number of examples in a message."""


@dataclass(frozen=True)
class Listed:
    """A picture that is not read yet."""

    path: Path
    """Its file."""
    label: int
    """The index of its class."""
    identity: str
    """What the data set's hash covers beside the file: its path from the source, and its class if that is not part
    of the path."""
    split: SplitName | None = None
    """The split that its owner put it in; None: none."""


@dataclass(frozen=True)
class Listing:
    """The pictures of a source."""

    labels: tuple[str, ...]
    """The classes' names in index order."""
    pictures: Sequence[Listed]
    """The pictures."""


def named(items: Sequence[object]) -> str:
    """Returns the first items for a message."""
    return ", ".join(map(str, items[:NAMED])) + (", …" if len(items) > NAMED else "")


def in_order(labels: set[str]) -> tuple[str, ...]:
    """Returns labels in index order: by number if all are numbers, else by name."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def check_label(label: str, where: str) -> None:
    """Checks that a class's name can be a line of labels.txt.

    Raises:
        DataError: it cannot.
    """
    if not label.isprintable() or not label.strip():
        raise DataError(f"{where} {label!a} cannot be a label; rename it")
