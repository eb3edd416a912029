"""Finds the pictures in a folder, and keeps count of what it passes over. Needs no library."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .formats import FORMATS

SUFFIXES = tuple(sorted(suffix for each in FORMATS for suffix in each.suffixes))
"""How pictures' names end, in any case."""

_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")
_NAMED_SUFFIXES = 5


def is_of_system(name: str) -> bool:
    """Tells names that begin with a dot (._NAME beside NAME, .DS_Store), and others that systems leave in folders."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


class Finder:
    """Finds the pictures in folders, and counts what it passes over."""

    def __init__(self) -> None:
        self._system = 0
        self._links = 0
        self._special = 0
        self._suffixes: Counter[str] = Counter()

    def pictures(self, folder: Path) -> Iterator[Path]:
        """Yields the pictures in a folder, at any depth, by name.

        Only one folder's names are held at a time, so millions of pictures cost no more memory than the largest folder.
        Links to folders are not followed: they can lead in circles.

        Raises:
            OSError: a folder cannot be read.
        """
        with os.scandir(folder) as entries:
            found = sorted((entry.name, is_folder) for entry in entries if (is_folder := self._sort(entry)) is not None)
        for name, is_folder in found:
            if is_folder:
                yield from self.pictures(folder / name)
            else:
                yield folder / name

    def _sort(self, entry: "os.DirEntry[str]") -> bool | None:
        """Returns whether an entry is a folder, or else a picture; None: it is passed over, and counted."""
        if is_of_system(entry.name):
            self._system += 1
        elif entry.is_dir(follow_symlinks=False):
            return True
        elif entry.is_dir():
            self._links += 1
        elif not entry.name.lower().endswith(SUFFIXES):
            self._suffixes[Path(entry.name).suffix.lower()] += 1
        elif not entry.is_file():
            # A pipe or a device, which would never end, or a link to nothing.
            self._special += 1
        else:
            return False
        return None

    def passed_over(self) -> str:
        """Returns what was passed over so far, and why; empty: nothing was."""
        others = self._suffixes.total()
        by_count = sorted(self._suffixes, key=lambda suffix: (-self._suffixes[suffix], suffix))
        endings = [suffix or "no ending" for suffix in by_count[:_NAMED_SUFFIXES]]
        more = ", …" if len(self._suffixes) > _NAMED_SUFFIXES else ""
        parts = (
            (others, f"not named like pictures ({', '.join(endings)}{more})"),
            (self._system, "hidden or left by a system (such as ._NAME, .DS_Store, Thumbs.db)"),
            (self._links, "links to folders"),
            (self._special, "not files (pipes, devices, or links to nothing)"),
        )
        return "; ".join(f"{count:,} {why}" for count, why in parts if count)
