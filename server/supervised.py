"""Threads that last as long as the server: a failed one is logged, makes the server unready, and restarts."""

import threading
from collections.abc import Callable

from .failures import FailureLog, guarded

# Between a failure and the restart; doubled each time, so repeated failures do not fill the log.
_PAUSE_S = 0.1
_MOST_PAUSE_S = 5.0


class Supervisor:
    """Supervises threads. Thread-safe.

    Args:
        log_failure: logs the error that ended a thread's work.
        on_change: called when `down` has changed, on the thread concerned.
        pause_s: seconds from a thread's first failure to its restart.
    """

    def __init__(
        self, log_failure: FailureLog, on_change: Callable[[], object] = lambda: None, *, pause_s: float = _PAUSE_S
    ) -> None:
        self.log_failure = log_failure
        self.pause_s = pause_s
        self._on_change = guarded(on_change, log_failure)
        self._lock = threading.Lock()
        self._down: list[str] = []

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the threads that have failed and not restarted yet."""
        return tuple(self._down)

    def thread(
        self, name: str, work: Callable[[], object], *, on_restart: Callable[[], object] = lambda: None
    ) -> "SupervisedThread":
        """Returns a thread that is not started yet.

        Args:
            name: the thread's.
            work: called again whenever it raises, until it returns.
            on_restart: called before each restart.
        """
        return SupervisedThread(self, name, work, guarded(on_restart, self.log_failure))

    def report(self, name: str, *, is_down: bool) -> None:
        """Records that a thread has failed or restarts."""
        with self._lock:
            if is_down:
                self._down.append(name)
            else:
                self._down.remove(name)
        self._on_change()


class SupervisedThread:
    """A thread that restarts its work if it fails. It ends when its work returns, or after `close`."""

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
            RuntimeError: the system cannot start more threads.
        """
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """Waits up to `timeout_s` for the thread to end, and prevents restarts. Stop the work first.

        Does not wait for a thread that was not started.

        Returns:
            Whether the thread has ended.
        """
        self._closed.set()
        # The thread itself sets `ident`, so one that failed to start has none.
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
        """Does the work; returns whether it finished without failing."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  no error may end the thread
            self._supervisor.log_failure(error)
            return False
        return True


class PeriodicThread:
    """Calls a function again and again on a supervised thread, whatever it raises, until it is closed."""

    def __init__(self, supervisor: Supervisor, name: str, look: Callable[[], object], interval_s: float) -> None:
        """Creates a thread that is not started yet.

        Args:
            supervisor: supervises the thread, and logs what `look` raises.
            name: the thread's.
            look: called once per interval.
            interval_s: seconds before each call.
        """
        self._look = look
        self._interval_s = interval_s
        self._log_failure = supervisor.log_failure
        self._stop = threading.Event()
        self._thread = supervisor.thread(name, self._work)

    def start(self) -> None:
        """Starts it.

        Raises:
            RuntimeError: the system cannot start more threads.
        """
        self._thread.start()

    def close(self) -> None:
        """Ends it, and waits for a running call."""
        self._stop.set()
        self._thread.close()

    def _work(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001  the next look must still happen
                self._log_failure(error)
