"""Follows changes of a repository while it is served (`--model-control-mode poll`)."""

import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

from ..deadline import Deadline
from ..errors import RepositoryError
from ..failures import FailureLog
from ..supervised import Supervisor
from .manager import RepositoryManager

# Files that are still being copied keep changing; they are loaded only after this long without a change.
_SETTLE_S = 0.5
# How long events are gathered before they are handled.
_DEBOUNCE_MS = 200


class RepositoryWatcher:
    """Makes the manager apply changes: at once on a file event, else at the next look.

    Network file systems and container mounts report some changes or none, so the watcher also looks at everything
    every few seconds.

    Args:
        repository: folder of models.
        manager: loads and unloads.
        interval_s: seconds between looks without events.
        log_problem: called once, with the reason, when the repository cannot be read.
        log_failure: logs unexpected errors.
        supervisor: supervises the thread; None: only its failures are logged.
    """

    def __init__(
        self,
        repository: Path,
        manager: RepositoryManager,
        *,
        interval_s: float,
        log_problem: Callable[[RepositoryError], object],
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._repository = repository
        self._manager = manager
        self._interval_s = interval_s
        self._log_problem = log_problem
        self._log_failure = log_failure
        self._stop = threading.Event()
        self._thread = (supervisor or Supervisor(log_failure)).thread("repository watcher", self._follow)
        self._problem = ""

    def start(self) -> None:
        """Starts looking."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> bool:
        """Stops; returns whether it did so by the deadline."""
        self._stop.set()
        return self._thread.close(deadline.left_s())

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                for _ in watch(
                    self._repository,
                    debounce=_DEBOUNCE_MS,
                    rust_timeout=int(self._interval_s * 1000),
                    yield_on_timeout=True,
                    stop_event=self._stop,
                    ignore_permission_denied=True,
                    raise_interrupt=False,
                ):
                    self._look()
            except OSError:
                # The repository is gone; the look below reports it.
                pass
            except Exception as error:  # noqa: BLE001  failing file events must not end the looks
                self._log_failure(error)
            # Without events it looks at its usual interval.
            if not self._stop.wait(self._interval_s):
                self._look()

    def _look(self) -> None:
        try:
            if self._is_unchanged():
                self._manager.refresh()
            self._problem = ""
        except RepositoryError as problem:
            if str(problem) != self._problem:
                self._problem = str(problem)
                self._log_problem(problem)
        except Exception as error:  # noqa: BLE001  one model's unexpected error must not stop watching the others
            self._log_failure(error)

    def _is_unchanged(self) -> bool:
        """Waits until nothing changes; returns False if told to stop."""
        before = self._manager.fingerprint()
        while not self._stop.wait(_SETTLE_S):
            now = self._manager.fingerprint()
            if now == before:
                return True
            before = now
        return False
