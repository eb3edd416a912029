"""Answers that nobody reads: given up after a time.

The front bounds what it holds of a connection's answers to 2 MiB; what comes beyond waits in `send`, for ever.
"""

import asyncio
import math
from typing import Any

_LOOKS = 4
# What the front holds of a connection's answers, and what a reader must take of them to be waited for.
_FRONT_BYTES = 2 << 20
_BYTES_PER_S = 128 * 1024


class Patience:
    """Cancels tasks whose sending makes no progress. Belongs to the loop's thread.

    A task begins by `sending[task] = 0`, does so again whenever a part is sent, and takes itself out in the end. It is
    done for every call, so it reads no clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        """Starts looking, as long as the loop runs.

        Args:
            loop: the loop.
            limit_s: seconds after which a task is cancelled, or a quarter more.
        """
        self._loop = loop
        self._interval_s = limit_s / _LOOKS
        self.sending: dict[asyncio.Task[Any] | None, int] = {}
        """How often each task that is sending was seen since it made progress."""
        self._look()

    def until_read(self, size_bytes: int) -> int:
        """Returns with how many looks a task begins that waits until the front has sent the end of an answer.

        They are below 0 by what a slow reader may take for it: the front does not say how far it is.

        Args:
            size_bytes: the answer's.
        """
        return -math.ceil(min(size_bytes, _FRONT_BYTES) / _BYTES_PER_S / self._interval_s)

    def _look(self) -> None:
        for task, looks in list(self.sending.items()):
            self.sending[task] = looks + 1
            if looks == _LOOKS and task is not None:
                task.cancel()
        self._loop.call_later(self._interval_s, self._look)
