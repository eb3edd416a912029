"""What differs once a file of a repository has been written, added or removed."""

import os
from collections.abc import Iterable
from pathlib import Path

from .layout import ModelFolder

Print = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of each file."""


def version_print(folder: ModelFolder, version: int) -> Print:
    """Returns what differs when a file of a version changes, or one that is all versions', without config.pbtxt."""
    others = {str(each) for each in folder.versions() if each != version}
    config_file = str(folder.config_file)
    return tuple(entry for entry in folder_print(folder.path, but=others) if entry[0] != config_file)


def folder_print(folder: Path, but: Iterable[str] = ()) -> Print:
    """Returns what differs when a file below a folder is written, added or removed; without the subfolders `but`."""
    found: list[tuple[str, int, int, int]] = []
    walked: set[tuple[int, int]] = set()
    # Links are how Kubernetes mounts files; one that leads back up must not be followed for ever.
    for root, folders, files in os.walk(folder, followlinks=True):
        try:
            status = Path(root).stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in walked:
            folders.clear()
            continue
        walked.add((status.st_dev, status.st_ino))
        if Path(root) == folder:
            folders[:] = [name for name in folders if name not in but]
        for name in files:
            path = Path(root, name)
            try:
                status = path.stat()
            except OSError:
                # It has gone since it was listed, or leads nowhere. What needs it says so; others do not care.
                continue
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(found))
