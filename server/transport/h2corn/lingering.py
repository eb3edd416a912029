"""Copies of a port's connections that were told to go, closed once clients have read what is on them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ..linger import end_closed, held_connections, unsent

# What clients get to read that they should go, before a reset can overtake it.
_LINGER_S = 1.0
# For how many times that copies are kept which a slow reader has not read to the end.
_LINGERS = 30
# What h2corn gets to close the connections that are idle.
_CLOSING_S = 0.05


class Lingering:
    """The copies of one port's connections. Belongs to the loop's thread, but for `copies`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Holds nothing yet."""
        self._loop = loop
        self._held: set[int] = set()

    @contextmanager
    def copies(self, port: int) -> Iterator[None]:
        """Copies the connections to a port, which are told to go within. For any thread but the loop's."""
        # Copies of copies would keep what a client does not read for ever. Not on the loop, which would wait while the
        # files of the process are listed.
        held = held_connections(port, besides=self._held)
        self._held.update(each.fileno() for each in held)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._keep, held)

    def _keep(self, held: list[socket.socket]) -> None:
        # h2corn closes an idle TLS connection without a word. While a copy is open, its client would not know, and lose
        # the next request on it.
        self._loop.call_later(_CLOSING_S, self._loop.run_in_executor, None, end_closed, held)
        self._loop.call_later(_LINGER_S, self._release, held, _LINGERS)

    def _release(self, held: list[socket.socket], lingers: int) -> None:
        waiting = unsent(held) if lingers else []
        for each in held:
            if each not in waiting:
                self._held.discard(each.fileno())
                each.close()
        if waiting:
            self._loop.call_later(_LINGER_S, self._release, waiting, lingers - 1)
