"""The event loop of a port, which measures its own lag."""

import asyncio
import selectors
import time


class _Selector(selectors.DefaultSelector):
    """Records when the loop was last idle."""

    def __init__(self) -> None:
        super().__init__()
        self.busy_since_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        if timeout is None or timeout > 0:
            self.busy_since_s = time.monotonic()
        return found


class PortLoop(asyncio.SelectorEventLoop):
    """An event loop that knows how long it has been busy."""

    def __init__(self) -> None:
        self._own_selector = _Selector()
        super().__init__(self._own_selector)

    def behind_s(self) -> float:
        """Returns the maximum time, in seconds, that current events can have waited for this loop.

        When it was last idle, all events had been handled.
        """
        return time.monotonic() - self._own_selector.busy_since_s
