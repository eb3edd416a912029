"""Reports the progress of slow loads."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

# Most loads end before the first report; one that takes minutes must not fill the log.
_FIRST_S = 1.0
_AGAIN_S = 10.0


class Progress:
    """Reports the current step once the block has taken a second, then every ten seconds.

    Args:
        report: called with the step and the seconds so far, on a thread of its own.
        step: what the block starts with, such as `reading the configuration`.
        first_s: seconds until the first report.
        again_s: seconds between reports.
    """

    def __init__(
        self, report: Callable[[str, float], object], step: str, *, first_s: float = _FIRST_S, again_s: float = _AGAIN_S
    ) -> None:
        self._callback = report
        self._first_s = first_s
        self._again_s = again_s
        self._step = step
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, name="load progress", daemon=True)

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._start_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends the reports."""
        self._ended.set()
        self._thread.join()

    def step(self, step: str) -> None:
        """Sets the current step, such as `opening the model`."""
        self._step = step

    def _report(self) -> None:
        wait_s = self._first_s
        while not self._ended.wait(wait_s):
            self._callback(self._step, time.monotonic() - self._start_s)
            wait_s = self._again_s
