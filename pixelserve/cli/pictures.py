"""Finds the pictures that a command's arguments mean."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pixelserve.imaging.files import Finder

from .exits import CommandError


def find(arguments: Sequence[Path], finder: Finder) -> Iterator[Path]:
    """Yields files as they are named, and the pictures in folders, which `finder` looks through.

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
    """Returns how many `find` would yield."""
    return sum(1 for _ in find(arguments, Finder()))
