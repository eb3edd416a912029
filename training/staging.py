"""Writes a folder atomically: beside its target first, then renamed, so it is never seen incomplete."""

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import TargetExistsError, WriteError


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yields a new hidden folder on the target's file system, and renames it to `target` when the block succeeds.

    If the block fails or is interrupted, the folder is removed and the target is unchanged; leftovers of a killed
    process are removed by the next one with the same target. An empty target folder is replaced.

    Raises:
        TargetExistsError: the target exists and is not empty.
        WriteError: it cannot be written.
    """
    check_free(target)
    try:
        with _staged(target) as staging:
            yield staging
    except OSError as error:
        raise WriteError(
            f"{target} cannot be written: {reason(error)}; nothing was left behind: make room or give another place"
        ) from error


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    staging, lock = _make(target)
    try:
        yield staging
        _rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def _make(target: Path) -> tuple[Path, int]:
    """Returns a new folder and the descriptor of its lock, which the kernel releases if the process is killed."""
    while True:
        # Not tempfile.mkdtemp, whose folder other users cannot read, including a server's.
        staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
        staging.mkdir()
        # Before it is locked, another process may consider it abandoned.
        with contextlib.suppress(FileNotFoundError):
            lock = _open(staging)
            if _is_ours(staging, lock):
                return staging, lock
            os.close(lock)


def _is_ours(staging: Path, lock: int) -> bool:
    try:
        return not _try_lock(lock) or os.path.samestat(staging.stat(), os.fstat(lock))
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_abandoned(target: Path) -> None:
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}")
    for path in [path for path in target.parent.iterdir() if name.fullmatch(path.name)]:
        # In use, a link, or another user's: keep it.
        with contextlib.suppress(OSError):
            lock = _open(path)
            try:
                if _try_lock(lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _try_lock(descriptor: int) -> bool:
    """Locks a folder; returns False on a file system without locks, where nothing is considered abandoned.

    Raises:
        BlockingIOError: another process has locked it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def check_free(target: Path) -> None:
    """Checks that `target` would not be overwritten.

    Raises:
        TargetExistsError: it exists and is not an empty folder.
        WriteError: its parent is not a folder.
    """
    nearest = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise WriteError(f"{target} cannot be written: {nearest} is not a folder; give another place")
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise TargetExistsError(f"{target} exists already and is not overwritten; give another place, or remove it")


def reason(error: OSError) -> str:
    """Returns why a write failed, in the system's words, without HDF5's paths and addresses."""
    code = error.errno
    if code is None and (named := re.search(r"errno = (\d+)", str(error))):
        code = int(named[1])
    return os.strerror(code) if code is not None else str(error)


def _rename(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError:
        # Another process may have written it in the meantime.
        check_free(target)
        raise
