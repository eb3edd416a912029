"""Writes log lines to a file descriptor whose reader may leave, stall or run out of space."""

import os
import select
import threading
import time

# How long to wait for a reader that has kept up so far.
_PATIENCE_S = 0.1
_NEWLINE = ord("\n")


class LogOutput:
    """Writes lines to a file descriptor. Thread-safe; never raises.

    A line that cannot be written is dropped: requests must not fail because `serve 2>&1 | head` ended or a disk is
    full, nor wait because a pager shows its first page. A reader that falls behind gets 0.1 s once; while it stays
    behind, lines are dropped at once.
    """

    def __init__(self, descriptor: int) -> None:
        """Writes to `descriptor` directly: Python's buffers would keep a failed line."""
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._is_mid_line = False
        self._lock = threading.Lock()
        self.lost = 0
        """Lines dropped since the last written one."""

    def write(self, line: str) -> None:
        """Writes a line, or counts it as dropped."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._lock:
            try:
                # The rest of a partly written line must not start the next one.
                self._send(b"\n" + data if self._is_mid_line else data)
            except OSError:
                self.lost += 1
            else:
                self.lost = 0

    # structlog calls these by level.
    debug = info = warning = error = critical = exception = msg = write

    def _send(self, data: bytes) -> None:
        patience_until_s = time.monotonic() + (0 if self.lost else _PATIENCE_S)
        left = memoryview(data)
        while left:
            # A writable pipe or terminal accepts this much without blocking.
            if not self._room.poll(max(0.0, patience_until_s - time.monotonic()) * 1000):
                raise TimeoutError
            written = os.write(self._descriptor, left[: select.PIPE_BUF])
            self._is_mid_line = left[written - 1] != _NEWLINE
            left = left[written:]
