"""Waiting for the signal that stops the server."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signal() -> Iterator[Callable[[], object]]:
    """Gives a function that waits for the first SIGTERM or SIGINT; a second one ends the process at once.

    The wait is for a byte that Python's own C handler writes: an event set by a handler could be missed, since handlers
    run on the main thread only when it wakes, and could lock up where the signal comes while the wait begins.
    """
    woken, waker = socket.socketpair()
    waker.setblocking(False)

    def on_signal(_: int, __: FrameType | None) -> None:
        # From now on the default action, which ends the process without waiting for its main thread to wake.
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    old_waker = signal.set_wakeup_fd(waker.fileno())
    old: dict[signal.Signals, Any] = {each: signal.signal(each, on_signal) for each in _STOP_SIGNALS}
    try:
        yield lambda: woken.recv(1)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_waker)
        woken.close()
        waker.close()
