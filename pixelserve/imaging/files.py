"""Finds the pictures in folders, and counts the files it skips. Needs no library."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .formats import FORMATS

SUFFIXES = tuple(sorted(suffix for each in FORMATS for suffix in each.suffixes))
"""Extensions of pictures, in lower case; matched in any case."""

_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")
_NAMED_SUFFIXES = 5


def is_of_system(name: str) -> bool:
    """Returns whether a name starts with a dot (._NAME beside NAME, .DS_Store) or is another system file."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


class Finder:
    """Finds the pictures in folders, and counts the skipped files."""

    def __init__(self) -> None:
        self._system = 0
        self._links = 0
        self._special = 0
        self._suffixes: Counter[str] = Counter()

    def pictures(self, folder: Path) -> Iterator[Path]:
        """Yields the pictures in a folder, at any depth, by name.

        Holds one folder's names per level, so memory does not grow with the total number of pictures.
        Links to folders are not followed: they can form cycles.

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
        """Returns True for a folder, False for a picture; counts other entries and returns None."""
        if is_of_system(entry.name):
            self._system += 1
        elif entry.is_dir(follow_symlinks=False):
            return True
        elif entry.is_dir():
            self._links += 1
        elif not entry.name.lower().endswith(SUFFIXES):
            self._suffixes[Path(entry.name).suffix.lower()] += 1
        elif not entry.is_file():
            # A pipe or device, whose reads may never end, or a broken link.
            self._special += 1
        else:
            return False
        return None

    def skipped(self) -> str:
        """Returns the skipped files so far, with reasons, or an empty text."""
        others = self._suffixes.total()
        by_count = sorted(self._suffixes, key=lambda suffix: (-self._suffixes[suffix], suffix))
        endings = [suffix or "no extension" for suffix in by_count[:_NAMED_SUFFIXES]]
        more = ", …" if len(self._suffixes) > _NAMED_SUFFIXES else ""
        parts = (
            (others, f"without a picture's extension ({', '.join(endings)}{more})"),
            (self._system, "hidden or system files (such as ._NAME, .DS_Store, Thumbs.db)"),
            (self._links, "links to folders"),
            (self._special, "not files (pipes, devices or broken links)"),
        )
        return "; ".join(f"{count:,} {why}" for count, why in parts if count)
