"""Answers that nobody reads: given up after a time.

The front bounds what it holds of a connection's answers to 2 MiB; what comes beyond waits in `send`, for ever.
"""

import asyncio
from types import TracebackType


class Patience:
    """Cancels tasks whose sending makes no progress. Belongs to the loop's thread.

    Used as a context around what a task sends; a task that goes on sending says so by `progress`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self._loop = loop
        self._limit_s = limit_s
        # When each task that is sending will be given up, by the loop's clock.
        self._ends_s: dict[asyncio.Task[object] | None, float] = {}
        self._is_looking = False

    def __enter__(self) -> "Patience":
        self.progress()
        # One timer for all of them: it is set while anything is being sent, and looks once in a while.
        if not self._is_looking:
            self._is_looking = True
            self._loop.call_later(self._limit_s / 4, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends_s.pop(asyncio.current_task(), None)

    def progress(self) -> None:
        """Says that a part was sent, and gives the next one the whole time."""
        self._ends_s[asyncio.current_task()] = self._loop.time() + self._limit_s

    def _look(self) -> None:
        now_s = self._loop.time()
        for task in [task for task, end_s in self._ends_s.items() if end_s <= now_s]:
            del self._ends_s[task]
            if task is not None:
                task.cancel()
        self._is_looking = bool(self._ends_s)
        if self._is_looking:
            self._loop.call_later(self._limit_s / 4, self._look)
