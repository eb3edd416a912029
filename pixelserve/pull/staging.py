"""The hidden folder in which a pull assembles a model: one pull at a time, and never left behind."""

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
    """Turns Ctrl-C and SIGTERM into KeyboardInterrupt, except in critical sections."""

    def __init__(self) -> None:
        self._is_held = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handles both signals inside the block; does nothing outside the main thread, as Python requires."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # A signal that was ignored at start, as by nohup and shells, stays ignored.
        mine = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before: dict[int, Any] = {each: signal.signal(each, self._on_signal) for each in mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Prevents interrupts in the block. Keep it short: signals in it are dropped."""
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
    """Yields an empty hidden folder in the repository, and always removes it with its contents.

    Another pull of the same model waits until this one is done. Leftovers of a killed pull are removed by the next.

    Args:
        repository: created if missing.
        model: the model's name.
        interrupts: held during the removal.
        on_wait: called if another pull is running.

    Raises:
        OSError: it cannot be written.
    """
    repository.mkdir(parents=True, exist_ok=True)
    folder = repository / f".{model}.pull"
    with locked(repository / f".{model}.pull.lock", interrupts, on_wait):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            # Not tempfile.mkdtemp, whose folder other users cannot read, including a server's.
            folder.mkdir()
            yield folder
        finally:
            with interrupts.held():
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, interrupts: Interrupts, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds a lock file, which is removed afterwards; calls `on_wait` if another process holds it."""
    while True:
        # NFS locks only files open for writing.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(handle, on_wait)
            # The previous holder removed it; make a new one.
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
