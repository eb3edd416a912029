"""Threads that live as long as the server: one that fails is logged, makes the server unready, and starts again."""

import threading
from collections.abc import Callable

from .failures import FailureLog, guarded

# Between a failure and the next start; doubled after each, so that one that fails at once fills no log.
_PAUSE_S = 0.1
_MOST_PAUSE_S = 5.0


class Supervisor:
    """Watches over threads. May be used from any thread."""

    def __init__(
        self, log_failure: FailureLog, on_change: Callable[[], object] = lambda: None, *, pause_s: float = _PAUSE_S
    ) -> None:
        """Watches over no thread yet.

        Args:
            log_failure: logs what ended a thread's work.
            on_change: called when `down` has changed, on the thread that it is about.
            pause_s: seconds from a thread's first failure to its next start.
        """
        self.log_failure = log_failure
        self.pause_s = pause_s
        self._on_change = guarded(on_change, log_failure)
        self._lock = threading.Lock()
        self._down: list[str] = []

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the threads that have failed and have not started again yet."""
        return tuple(self._down)

    def thread(
        self, name: str, work: Callable[[], object], *, on_restart: Callable[[], object] = lambda: None
    ) -> "SupervisedThread":
        """Returns a thread that is not started yet.

        Args:
            name: the thread's.
            work: called again when it has raised, until it returns.
            on_restart: called before that.
        """
        return SupervisedThread(self, name, work, guarded(on_restart, self.log_failure))

    def report(self, name: str, *, is_down: bool) -> None:
        """Takes note of a thread that has failed, or that starts again."""
        with self._lock:
            if is_down:
                self._down.append(name)
            else:
                self._down.remove(name)
        self._on_change()


class SupervisedThread:
    """A thread whose work is done again when it fails. It ends when its work returns, or after `close`."""

    def __init__(
        self, supervisor: Supervisor, name: str, work: Callable[[], object], on_restart: Callable[[], object]
    ) -> None:
        """Use `Supervisor.thread`."""
        self._supervisor = supervisor
        self._name = name
        self._work = work
        self._on_restart = on_restart
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts it.

        Raises:
            RuntimeError: the system gives the process no more threads.
        """
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """Waits until it has ended, or for so long; its work is not done again. The work must have been told to end.

        Does not wait for a thread that was never started.

        Returns:
            Whether it does not run any more.
        """
        self._closed.set()
        # `ident` is set by the thread itself, so one that could not be started has none.
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause_s = self._supervisor.pause_s
        while not self._has_ended():
            self._supervisor.report(self._name, is_down=True)
            is_over = self._closed.wait(pause_s)
            self._supervisor.report(self._name, is_down=False)
            if is_over:
                return
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            self._on_restart()

    def _has_ended(self) -> bool:
        """Does the work; returns whether it is over, rather than failed."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  what must not end may not be ended by anything
            self._supervisor.log_failure(error)
            return False
        return True
