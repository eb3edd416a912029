"""Times out answers that are not read.

h2corn buffers up to 2 MiB of a connection's answers; the rest waits in `send`, forever.
"""

import asyncio
import math
from typing import Any

from .. import SLOW_BYTES_PER_S

_LOOKS = 4
# h2corn's buffer per connection.
_FRONT_BYTES = 2 << 20


class Patience:
    """Cancels tasks whose sends make no progress. Belongs to the loop's thread.

    A task sets `sending[task] = 0` at the start and whenever a part is sent, and removes itself at the end. This runs
    for every call, so it reads no clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        """Checks periodically as long as the loop runs.

        Args:
            loop: the loop.
            limit_s: seconds without progress after which a task is cancelled, up to a quarter more.
        """
        self._loop = loop
        self._interval_s = limit_s / _LOOKS
        self.sending: dict[asyncio.Task[Any] | None, int] = {}
        """Number of checks since each sending task last made progress."""
        self._look()

    def until_read(self, size_bytes: int) -> int:
        """Returns the initial number of checks for a task that waits until h2corn has sent the end of an answer.

        It is negative by the time a slow reader may take, because h2corn does not report progress.

        Args:
            size_bytes: the answer's size.
        """
        return -math.ceil(min(size_bytes, _FRONT_BYTES) / SLOW_BYTES_PER_S / self._interval_s)

    def _look(self) -> None:
        for task, looks in list(self.sending.items()):
            self.sending[task] = looks + 1
            if looks == _LOOKS and task is not None:
                task.cancel()
        self._loop.call_later(self._interval_s, self._look)
