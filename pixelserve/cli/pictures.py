"""Finds the pictures that a command's arguments mean."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def find(arguments: Sequence[Path]) -> Iterator[Path]:
    """Yields files as they are named, and the pictures in folders, at any depth, by name.

    Only one folder's names are held at a time, so millions of pictures cost no more memory than the largest folder.
    Links to folders are not followed: they can lead in circles.
    """
    for argument in arguments:
        if argument.is_dir():
            yield from _in_folder(argument)
        else:
            yield argument


def _in_folder(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if is_folder:
            yield from _in_folder(folder / name)
        elif name.lower().endswith(SUFFIXES):
            yield folder / name


def count(arguments: Sequence[Path]) -> int:
    """Returns how many `find` would yield."""
    return sum(1 for _ in find(arguments))
