"""The hidden folder that a model is put together in, for one pull at a time, and never left behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Has Ctrl-C and SIGTERM raise KeyboardInterrupt, but not in the middle of what has to be finished."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._is_held = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handles both signals inside the block; outside the main thread, which alone may, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Whoever started this process with a signal ignored, as nohup and shells do, means it.
        mine = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before: dict[int, Any] = {each: signal.signal(each, self._on_signal) for each in mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lets nothing interrupt the block. It must be short: a signal that comes meanwhile is forgotten."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._is_held:
            raise KeyboardInterrupt


@contextlib.contextmanager
def staging(repository: Path, model: str, interrupts: Interrupts, on_wait: Callable[[], object]) -> Iterator[Path]:
    """Yields an empty hidden folder in the repository, and removes it with all that is left in it, whatever happens.

    One at a time: another pull of the same model waits until this one is done. What one that was killed has left is
    removed by the next.

    Args:
        repository: made where it is missing.
        model: the model's name.
        interrupts: kept from interrupting the removal.
        on_wait: called where another pull is waited for.

    Raises:
        OSError: the disk does not take it.
    """
    repository.mkdir(parents=True, exist_ok=True)
    folder = repository / f".{model}.pull"
    with locked(repository / f".{model}.pull.lock", interrupts, on_wait):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            # Not tempfile.mkdtemp: its folder is closed to everybody else, a server under another user included.
            folder.mkdir()
            yield folder
        finally:
            with interrupts.held():
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, interrupts: Interrupts, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds a lock that is a file, which is removed afterwards; `on_wait` is called if another process has it."""
    while True:
        # A file, open for writing: what NFS needs for a lock.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(handle, on_wait)
            # Whoever held it has removed it, and the next one makes another.
            if not _is_at(handle, path):
                continue
            try:
                yield
            finally:
                with interrupts.held():
                    path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _wait_for(handle: int, on_wait: Callable[[], object]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
