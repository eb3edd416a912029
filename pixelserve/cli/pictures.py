"""Finds the pictures in a command's arguments."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pixelserve.imaging.files import Finder

from .exits import CommandError


def find(arguments: Sequence[Path], finder: Finder) -> Iterator[Path]:
    """Yields the named files, and the pictures that `finder` finds in folders.

    Raises:
        CommandError: a folder cannot be read.
    """
    for argument in arguments:
        if not argument.is_dir():
            yield argument
            continue
        try:
            yield from finder.pictures(argument)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error


def count(arguments: Sequence[Path]) -> int:
    """Returns the number of pictures that `find` yields."""
    return sum(1 for _ in find(arguments, Finder()))
