"""Copies of a port's connections after GOAWAY, closed once clients have read everything on them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ..linger import end_closed, held_connections, unsent

# Time for clients to read GOAWAY before a reset can overtake it.
_LINGER_S = 1.0
# How many times longer copies are kept for slow readers.
_LINGERS = 30
# Time for h2corn to close idle connections.
_CLOSING_S = 0.05


class Lingering:
    """The copies of one port's connections. Belongs to the loop's thread, except `copies`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: set[int] = set()

    @contextmanager
    def copies(self, port: int) -> Iterator[None]:
        """Copies the connections to a port, for a block that sends GOAWAY. For any thread but the loop's."""
        # Copies of copies would keep unread bytes forever. Not on the loop, which would wait while the process's files
        # are listed.
        held = held_connections(port, besides=self._held)
        self._held.update(each.fileno() for each in held)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._keep, held)

    def _keep(self, held: list[socket.socket]) -> None:
        # h2corn closes idle TLS connections without close_notify. While a copy is open, the client would not
        # notice, and would lose its next request.
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
