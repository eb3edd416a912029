"""Fingerprints of files, which differ after a file of a repository is written, added or removed."""

import os
from collections.abc import Iterable
from pathlib import Path

from .layout import ModelFolder

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, modification time and inode of each file."""


def version_fingerprint(folder: ModelFolder, version: int) -> Fingerprint:
    """Returns the fingerprint of a version's files and those shared by all versions, without config.pbtxt."""
    others = {str(each) for each in folder.versions() if each != version}
    config_file = str(folder.config_file)
    return tuple(entry for entry in folder_fingerprint(folder.path, but=others) if entry[0] != config_file)


def folder_fingerprint(folder: Path, but: Iterable[str] = ()) -> Fingerprint:
    """Returns the fingerprint of all files below a folder, except in the subfolders `but`."""
    found: list[tuple[str, int, int, int]] = []
    walked: set[tuple[int, int]] = set()
    # Kubernetes mounts files as links; one that leads back up must not be followed forever.
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
                # It was removed since it was listed, or is a broken link. Code that needs it reports that.
                continue
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(found))
