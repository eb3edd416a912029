"""Detects HTTP/1 callers who disconnect while waiting for an answer.

h2corn reads an HTTP/1 connection only between requests, so neither it nor the application notices a disconnect until
the answer is written. Over HTTP/2 it cancels the request; over HTTP/1 we do, by the state of the socket, which is one
of this process's.
"""

import asyncio
import errno
import os
import select
import socket
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# How long a disconnect may go unnoticed; requests answered sooner are never checked.
_LOOK_EVERY_S = 0.25
_DESCRIPTORS = Path("/dev/fd")
# Closed by the peer for writing, as by leaving clients. Linux only; other systems report only resets.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)

Peer = tuple[str, int]


class Departures:
    """Passes requests to an application, and cancels those of disconnected callers. Belongs to the loop's thread."""

    def __init__(self, app: Any) -> None:
        self._app = app
        # HTTP/1 has one request at a time per connection.
        self._waiting: dict[Peer, asyncio.Task[Any] | None] = {}
        self._gone: set[Peer] = set()
        # The address families for which connections were found: IPv4 (False), IPv6.
        self._families: set[bool] = set()
        self._look: asyncio.Task[None] | None = None
        self._open = 0
        self._sending: set[asyncio.Task[Any] | None] = set()

    @property
    def reading(self) -> int:
        """Number of incomplete requests, once all complete ones are answered."""
        return self._open - len(self._sending)

    @property
    def sending(self) -> int:
        """Number of unsent answers; those that h2corn took count as sent."""
        return len(self._sending)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handles one request."""
        task = asyncio.current_task()

        def send_noted(event: Any) -> Any:
            self._sending.add(task)
            return send(event)

        self._open += 1
        try:
            await self._carry(scope, receive, send_noted)
        finally:
            self._open -= 1
            self._sending.discard(task)

    async def _carry(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if client is None or scope.get("http_version") != "1.1":
            await self._app(scope, receive, send)
            return
        peer = tuple(client)
        self._waiting[peer] = task = asyncio.current_task()
        if self._look is None:
            self._look = asyncio.ensure_future(self._keep_looking())
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if peer not in self._gone or task is None:
                raise
            task.uncancel()
            # No one reads it, but h2corn would log a missing answer.
            await send({"type": "http.response.start", "status": 499, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._waiting.pop(peer, None)
            self._gone.discard(peer)

    async def _keep_looking(self) -> None:
        """Checks periodically until nothing waits."""
        while self._waiting:
            seen = dict(self._waiting)
            await asyncio.sleep(_LOOK_EVERY_S)
            waiting = [peer for peer, task in seen.items() if self._waiting.get(peer) is task]
            found = await self._connections(waiting) if waiting else {}
            self._families.update(map(_is_ipv6, found))
            for peer in waiting:
                # A reset connection has no peer and is not found; but the system may also write addresses of this
                # family differently.
                is_open = found.get(peer, _is_ipv6(peer) not in self._families)
                if not is_open and self._waiting.get(peer) is seen[peer]:
                    self._cancel(peer)
        self._look = None

    async def _connections(self, peers: Collection[Peer]) -> dict[Peer, bool]:
        try:
            # Takes some microseconds per connection.
            return await asyncio.to_thread(connections, peers)
        except OSError:
            # Too many descriptors, or they cannot be listed.
            return dict.fromkeys(peers, True)

    def _cancel(self, peer: Peer) -> None:
        task = self._waiting[peer]
        if task is not None:
            self._gone.add(peer)
            task.cancel()


def connections(peers: Collection[Peer]) -> dict[Peer, bool]:
    """Returns whether the peers of this process's TCP connections are open; reset connections are omitted.

    Args:
        peers: addresses and ports of the peers.
    """
    wanted = set(peers)
    ends: dict[int, Peer] = {}
    poll = select.poll()
    with ExitStack() as held:
        for entry in _DESCRIPTORS.iterdir():
            end = _socket(int(entry.name))
            if end is None:
                continue
            peer = _peer(end)
            if peer is None or peer not in wanted:
                end.close()
                continue
            held.enter_context(end)
            ends[end.fileno()] = peer
            poll.register(end, _HUNG_UP)
        closed = {number for number, _ in poll.poll(0)}
        return {peer: number not in closed for number, peer in ends.items()}


def _socket(number: int) -> socket.socket | None:
    """Returns a duplicate of a descriptor's socket, or None if it is not a socket or is closed."""
    copy = -1
    try:
        copy = os.dup(number)
        return socket.socket(fileno=copy)
    except OSError as error:
        if copy >= 0:
            os.close(copy)
        elif error.errno == errno.EMFILE:
            # It may be a wanted one, and open.
            raise
        return None


def _is_ipv6(peer: Peer) -> bool:
    return ":" in peer[0]


def _peer(end: socket.socket) -> Peer | None:
    if end.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        host, port = end.getpeername()[:2]
    except OSError:
        return None
    return host.removeprefix("::ffff:"), port
