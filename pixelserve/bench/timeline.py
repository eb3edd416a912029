"""The clock of the load generator; tests replace it with one that they advance."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# Seconds between checks for signals in a wait: a signal just before the system call does not end it, so Ctrl-C would
# otherwise be lost until the wait ends by itself.
_LOOK_S = 0.1


class Timeline(Protocol):
    """Tells the time, and waits."""

    def now_s(self) -> float:
        """Returns seconds since some fixed moment."""

    def sleep_until(self, moment_s: float) -> None:
        """Returns at `moment_s`, or at once if it has passed."""

    def wait(self, event: threading.Event) -> None:
        """Returns once `event` is set."""


class RealTime:
    """The machine's monotonic clock. Ctrl-C interrupts only its waits: see `taking_ctrl_c`."""

    def __init__(self) -> None:
        self._is_waiting = False
        self._is_interrupted = False

    def now_s(self) -> float:
        """Returns seconds since some fixed moment."""
        return time.perf_counter()

    def sleep_until(self, moment_s: float) -> None:
        """Returns at `moment_s`, or some tens of microseconds later."""
        with self._waiting():
            while (left_s := moment_s - time.perf_counter()) > 0:
                time.sleep(min(left_s, _LOOK_S))

    def wait(self, event: threading.Event) -> None:
        """Returns once `event` is set."""
        with self._waiting():
            while not event.wait(_LOOK_S):
                pass

    @contextmanager
    def taking_ctrl_c(self) -> Iterator[None]:
        """Raises KeyboardInterrupt only in waits: the current one or else the next.

        Raised inside grpcio while it starts a call, it would leave the call without the thread that ends it, and
        closing the channel would wait forever.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._is_waiting:
            raise KeyboardInterrupt
        self._is_interrupted = True

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._is_waiting = True
        try:
            if self._is_interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_waiting = False
