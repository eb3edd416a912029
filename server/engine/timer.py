"""A thread that calls functions at set times."""

import time
from collections.abc import Callable

from ..failures import FailureLog
from ..supervised import Supervisor
from .wakeup import Wakeups, two_wakeups


class Timer:
    """Calls functions at set times, on its own thread. `at` is thread-safe."""

    def __init__(
        self,
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wakeups: Callable[[], Wakeups] = two_wakeups,
    ) -> None:
        """Calls nothing before `start`.

        Args:
            log_failure: receives the exceptions of functions.
            supervisor: supervises the thread; None: only its failures are logged.
            clock_ns: the clock.
            wakeups: makes the lock and the place where the thread sleeps; simulations replace it.
        """
        self._log_failure = log_failure
        self._clock_ns = clock_ns
        # One time per function. There are as many as models, so a search is cheap and nothing accumulates.
        self._due_ns: dict[Callable[[], object], int] = {}
        self._lock, self._changed, _ = wakeups()
        self._closed = False
        self._thread = (supervisor or Supervisor(log_failure)).thread("timer", self._work)

    def start(self) -> None:
        """Starts the thread.

        Raises:
            RuntimeError: the system cannot start more threads.
        """
        self._thread.start()

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        """Calls `function` when the clock reaches `when_ns`; replaces its previous time.

        It must not block.
        """
        with self._lock:
            self._due_ns[function] = when_ns
            self._changed.wake()

    def close(self) -> None:
        """Ends the thread; functions not yet due are not called."""
        with self._lock:
            self._closed = True
            self._changed.wake()
        self._thread.close()

    def _work(self) -> None:
        while (function := self.next()) is not None:
            self.call(function)

    def call(self, function: Callable[[], object]) -> None:
        """Calls a due function; logs its exception, so the others still run."""
        try:
            function()
        except BaseException as error:  # noqa: BLE001  the other deadlines must still be met
            self._log_failure(error)

    def next(self) -> Callable[[], object] | None:
        """Waits until a function is due, and removes it; returns None at the end."""
        with self._lock:
            while not self._closed:
                function = min(self._due_ns, key=self._due_ns.__getitem__, default=None)
                left_ns = None if function is None else self._due_ns[function] - self._clock_ns()
                if function is not None and left_ns is not None and left_ns <= 0:
                    del self._due_ns[function]
                    return function
                self._changed.sleep(None if left_ns is None else left_ns / 1e9)
            return None
