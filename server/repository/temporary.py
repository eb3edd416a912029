"""Folders for temporary files. Those of a killed server are removed by the next one.

A server locks a file in its folder while it lives; the kernel releases the lock however the server ends. So no age is
guessed, and servers never remove each other's folders.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "pixelserve-files-"
_LOCK_FILE = ".lock"


class TemporaryFolder:
    """One server's folder.

    Args:
        path: the folder.
        descriptor: of its lock, which is held.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def make(cls) -> "TemporaryFolder":
        """Makes a folder that only this user can read.

        Raises:
            OSError: the system's directory for temporary files cannot be written.
        """
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            # A server that starts at this moment may have taken it for abandoned.
            if (descriptor := _lock(path)) is not None:
                return cls(path, descriptor)

    def remove(self) -> None:
        """Removes the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def remove_abandoned() -> int:
    """Removes the folders that this user's dead servers left; returns how many."""
    try:
        found = list(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    except OSError:
        # Without a directory for temporary files there are none.
        return 0
    return sum(_remove_if_abandoned(path) for path in found)


def _remove_if_abandoned(path: Path) -> bool:
    try:
        # Anyone may put a file or link of this name there.
        is_own = path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
        descriptor = _lock(path) if is_own else None
    except OSError:
        return False
    if descriptor is None:
        return False
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)
    return not path.exists()


def _lock(folder: Path) -> int | None:
    """Locks a folder and returns the lock's descriptor; None if another process holds it or removed the folder."""
    path = folder / _LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # If the file was removed between the two lines above, this lock protects nothing.
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
