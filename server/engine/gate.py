"""Keeps everything else off the GPU while a CUDA graph is captured."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureGate:
    """Many may run, or one may capture.

    ONNX Runtime captures in CUDA's global mode, in which a copy or an allocation of any other thread of the process
    fails, and spoils the capture too (cudaStreamCaptureModeGlobal in CUDA's documentation).
    """

    def __init__(self) -> None:
        """Nobody is in."""
        self._changed = threading.Condition()
        self._running = 0
        self._capturing = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Waits until nobody captures or wants to; nobody captures meanwhile. Must not be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Waits until nobody runs or captures; nobody does meanwhile. Must not be nested in either."""
        with self._changed:
            # Those who would run wait from now on, or a busy server would never get to a capture.
            self._capturing += 1
            self._changed.wait_for(lambda: not self._running)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._capturing -= 1
                self._changed.notify_all()
