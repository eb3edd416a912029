"""The event loop of a port, which knows how far it is behind."""

import asyncio
import selectors
import time


class _Selector(selectors.DefaultSelector):
    """Remembers when there was last nothing to do but wait."""

    busy_since_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        if timeout is None or timeout > 0:
            self.busy_since_s = time.monotonic()
        return found


class PortLoop(asyncio.SelectorEventLoop):
    """An event loop that knows since when it has been busy."""

    def __init__(self) -> None:
        self._own_selector = _Selector()
        super().__init__(self._own_selector)

    def behind_s(self) -> float:
        """Returns for how many seconds, at the most, what is handled now can have waited for this loop.

        When it last had nothing to do, everything that had come was handled.
        """
        return time.monotonic() - self._own_selector.busy_since_s
