"""One thread that does small things later."""

import threading
import time
from collections.abc import Callable

from ..failures import FailureLog


class Timer:
    """Calls functions at their times, on a thread of its own. `at` may be called from any thread."""

    def __init__(self, log_failure: FailureLog) -> None:
        """Stores what it is handed; `start` starts the thread.

        Args:
            log_failure: is given whatever a function raised.
        """
        self._log_failure = log_failure
        # One time a function: there are as many functions as models, so a search is cheap, and nothing piles up.
        self._due_ns: dict[Callable[[], object], int] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="timer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def at(self, when_ns: int, function: Callable[[], object]) -> None:
        """Has `function` called when `time.monotonic_ns()` has reached `when_ns`, and not at the time set before.

        It must not block.
        """
        with self._changed:
            self._due_ns[function] = when_ns
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread; what was not due yet is not called."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (function := self._wait_for_next()) is not None:
            try:
                function()
            except Exception as error:  # noqa: BLE001  one function's failure must not cost the others their time
                self._log_failure(error)

    def _wait_for_next(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._closed:
                function = min(self._due_ns, key=self._due_ns.__getitem__, default=None)
                left_ns = None if function is None else self._due_ns[function] - time.monotonic_ns()
                if function is not None and left_ns is not None and left_ns <= 0:
                    del self._due_ns[function]
                    return function
                self._changed.wait(None if left_ns is None else left_ns / 1e9)
            return None
