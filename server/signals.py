"""Waits for the signal that stops the server."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Not a signal's number.
_WAKE = b"\0"


class StopSignal:
    """The first SIGTERM or SIGINT of this process."""

    def __init__(self, woken: socket.socket, waker: socket.socket) -> None:
        self._woken = woken
        self._waker = waker

    def wait(self) -> bool:
        """Waits for the signal or `wake`; returns whether it was the signal. Call it on the main thread."""
        return self._woken.recv(1) != _WAKE

    def wake(self) -> None:
        """Ends the wait without a signal. Thread-safe."""
        self._waker.send(_WAKE)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Yields the first SIGTERM or SIGINT to wait for; a second one ends the process at once.

    It waits for a byte that Python's C handler writes: an event set by a Python handler could be missed, because
    handlers run on the main thread only when it wakes, and could deadlock if the signal comes as the wait starts.
    """
    woken, waker = socket.socketpair()
    waker.setblocking(False)

    def on_signal(_: int, __: FrameType | None) -> None:
        # Then the default action, which ends the process without waking its main thread.
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    old_waker = signal.set_wakeup_fd(waker.fileno())
    old: dict[signal.Signals, Any] = {each: signal.signal(each, on_signal) for each in _STOP_SIGNALS}
    try:
        yield StopSignal(woken, waker)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_waker)
        woken.close()
        waker.close()
