"""Where the log's lines go: a file descriptor whose reader may leave, fall asleep, or run out of space."""

import os
import select
import threading
import time

# What a reader that has kept up so far may take to make room.
_PATIENCE_S = 0.1
_NEWLINE = ord("\n")


class LogOutput:
    """Writes lines to a file descriptor. May be called from any thread, and raises nothing.

    A line that cannot be written is lost: requests must not fail because `serve 2>&1 | head` has read enough or a disk
    is full, nor wait because a pager shows its first page. A reader that falls behind is waited for once, 0.1 s; while
    it stays behind, lines are lost at once.
    """

    def __init__(self, descriptor: int) -> None:
        """Takes the descriptor; it is written to past Python's buffers, which would keep a line that failed."""
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._is_mid_line = False
        self._lock = threading.Lock()
        self.lost = 0
        """Lines lost since the last that was written."""

    def write(self, line: str) -> None:
        """Writes a line, or counts it as lost."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._lock:
            try:
                # What a failure left of a line must not become the beginning of the next.
                self._send(b"\n" + data if self._is_mid_line else data)
            except OSError:
                self.lost += 1
            else:
                self.lost = 0

    # What structlog calls, by the event's level.
    debug = info = warning = error = critical = exception = msg = write

    def _send(self, data: bytes) -> None:
        patience_until_s = time.monotonic() + (0 if self.lost else _PATIENCE_S)
        left = memoryview(data)
        while left:
            # A pipe or a terminal that has room takes this much without waiting for its reader.
            if not self._room.poll(max(0.0, patience_until_s - time.monotonic()) * 1000):
                raise TimeoutError
            written = os.write(self._descriptor, left[: select.PIPE_BUF])
            self._is_mid_line = left[written - 1] != _NEWLINE
            left = left[written:]
