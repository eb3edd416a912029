"""HTTP/1 callers who hang up while they wait for an answer.

h2corn reads an HTTP/1 connection between requests only, so neither it nor the application hears of a caller who left
until the answer is written. Over HTTP/2 it cancels the request; over HTTP/1 we do, by the state of the socket, which is
one of this process.
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

# What a caller may be gone for, unnoticed; a request that is answered sooner is never looked at.
_LOOK_EVERY_S = 0.25
_DESCRIPTORS = Path("/dev/fd")
# Closed by the other end for writing, as clients do that leave. Linux only; others tell of resets.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)

Peer = tuple[str, int]


class Departures:
    """Passes requests on to an application, and cancels those whose callers have left. Belongs to the loop's thread."""

    def __init__(self, app: Any) -> None:
        self._app = app
        # HTTP/1 has one request at a time on a connection.
        self._waiting: dict[Peer, asyncio.Task[Any] | None] = {}
        self._gone: set[Peer] = set()
        # Of which connections were found by their addresses: IPv4's (False), IPv6's.
        self._families: set[bool] = set()
        self._look: asyncio.Task[None] | None = None
        self._open = 0
        self._sending: set[asyncio.Task[Any] | None] = set()

    @property
    def reading(self) -> int:
        """How many requests are not whole yet, once all that were are answered."""
        return self._open - len(self._sending)

    @property
    def sending(self) -> int:
        """How many answers are not sent yet; those that h2corn has taken are."""
        return len(self._sending)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Carries one request."""
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
            # Nobody reads it, but h2corn would log an answer that does not come.
            await send({"type": "http.response.start", "status": 499, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._waiting.pop(peer, None)
            self._gone.discard(peer)

    async def _keep_looking(self) -> None:
        """Looks once in a while, until nothing waits."""
        while self._waiting:
            seen = dict(self._waiting)
            await asyncio.sleep(_LOOK_EVERY_S)
            waiting = [peer for peer, task in seen.items() if self._waiting.get(peer) is task]
            found = await self._connections(waiting) if waiting else {}
            self._families.update(map(_is_ipv6, found))
            for peer in waiting:
                # One that was reset has no peer any more, and is not found; unless the system writes addresses of this
                # kind in another way.
                is_open = found.get(peer, _is_ipv6(peer) not in self._families)
                if not is_open and self._waiting.get(peer) is seen[peer]:
                    self._cancel(peer)
        self._look = None

    async def _connections(self, peers: Collection[Peer]) -> dict[Peer, bool]:
        try:
            # Some microseconds for each connection that there is.
            return await asyncio.to_thread(connections, peers)
        except OSError:
            # There are too many descriptors, or none may be listed.
            return dict.fromkeys(peers, True)

    def _cancel(self, peer: Peer) -> None:
        task = self._waiting[peer]
        if task is not None:
            self._gone.add(peer)
            task.cancel()


def connections(peers: Collection[Peer]) -> dict[Peer, bool]:
    """Returns of this process' TCP connections whether their other ends are open; those that were reset are left out.

    Args:
        peers: addresses and ports of the other ends.
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
    """Returns a descriptor's socket, as one of our own that may be closed; None: it is not one, or has been closed."""
    copy = -1
    try:
        copy = os.dup(number)
        return socket.socket(fileno=copy)
    except OSError as error:
        if copy >= 0:
            os.close(copy)
        elif error.errno == errno.EMFILE:
            # It may be one that is looked for, and is open.
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
