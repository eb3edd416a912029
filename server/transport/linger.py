"""Connections that are closed without a reset, and not before everything on them is sent.

A transport closes a connection once its last answer is written: to the kernel, which may hold megabytes for a slow
reader. Whatever a client has sent by then and nobody has read makes the kernel reset the connection, and the client
loses not only the calls that it has just sent, but also the answers that the kernel still held. Measured with 32
callers on a prototype: 81 of 416,000 calls lost over 150 renewals, answered ones among them; with connections held open
for a second, 106 of 1,389,000 over 550 renewals. A reader of 10 MB/s lost the last 2.7 of 32 MB when a process ended.
"""

import os
import socket
import stat
import struct
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from termios import TIOCOUTQ
from typing import Any

from ..deadline import Deadline

_LOOK_S = 0.02
# More than a client can have sent while its connection was told to go; one that goes on sending is not waited for.
_READS = 16

# Where systems list the open files of the process that asks.
_DESCRIPTORS = (Path("/proc/self/fd"), Path("/dev/fd"))


def held_connections(port: int, besides: Collection[int] = ()) -> list[socket.socket]:
    """Returns a copy of each connection of this process to a local port.

    While a copy is open, closing the original neither ends the connection nor resets it. What cannot be copied, for
    want of descriptors, is left out.

    Args:
        port: the local port.
        besides: descriptors that are not copied, such as those of copies.
    """
    held: dict[tuple[Any, ...], socket.socket] = {}
    for descriptor in _open_descriptors():
        if descriptor in besides:
            continue
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            copy = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            # Others open and close theirs meanwhile.
            continue
        # One copy is enough, also of what is a copy itself.
        if (ends := _ends(copy, port)) is None or ends in held:
            copy.close()
        else:
            held[ends] = copy
    return list(held.values())


def _open_descriptors() -> list[int]:
    folder = next((each for each in _DESCRIPTORS if each.is_dir()), None)
    # Listed whole before anything is copied, or the copies would be copied too.
    return [] if folder is None else [int(each.name) for each in folder.iterdir()]


def _ends(candidate: socket.socket, port: int) -> tuple[Any, ...] | None:
    """Returns what tells a connection to a local port from the others; None: it is not one."""
    try:
        peer, own = candidate.getpeername(), candidate.getsockname()
    except OSError:
        # It listens, or the other side has gone.
        return None
    is_one = candidate.family in (socket.AF_INET, socket.AF_INET6) and own[1] == port
    return (peer, own) if is_one else None


@contextmanager
def copies(port: int) -> Iterator[list[socket.socket]]:
    """Gives copies of the connections to a local port (0: none is taken), and closes them."""
    held = held_connections(port) if port else []
    try:
        yield held
    finally:
        for each in held:
            each.close()


def unsent(connections: Iterable[socket.socket]) -> list[socket.socket]:
    """Returns the connections that have bytes which the other side's kernel has not confirmed yet; Linux only."""
    return [each for each in connections if _unsent_bytes(each)]


def _unsent_bytes(connection: socket.socket) -> int:
    # Linux's SIOCOUTQ has the same number; elsewhere it is an error, or is about terminals only.
    with suppress(OSError):
        # Fails for one that was reset, on which nothing is sent any more.
        connection.getpeername()
        return int(struct.unpack("i", ioctl(connection.fileno(), TIOCOUTQ, b"\0" * 4))[0])
    return 0


def end_closed(connections: Iterable[socket.socket]) -> None:
    """Ends the connections that their transport has closed; copies of them go on taking what the other side sends."""
    opened: Counter[int] = Counter()
    for descriptor in _open_descriptors():
        with suppress(OSError):
            opened[os.fstat(descriptor).st_ino] += 1
    for each in connections:
        with suppress(OSError):
            if opened[os.fstat(each.fileno()).st_ino] == 1:
                each.shutdown(socket.SHUT_WR)


def close_when_sent(connections: Iterable[socket.socket], deadline: Deadline) -> int:
    """Closes copies of connections that their transport has ended, each as soon as everything on it is sent.

    Returns:
        How many had something unsent at the deadline.
    """
    left = list(connections)
    while True:
        waiting = unsent(left)
        is_over = not waiting or not deadline.left_s()
        for each in left:
            if is_over or each not in waiting:
                _close(each)
        if is_over:
            return len(waiting)
        left = waiting
        time.sleep(_LOOK_S)


def _close(connection: socket.socket) -> None:
    # What is left unread would make this a reset.
    with suppress(OSError):
        for _ in range(_READS):
            if not connection.recv(65536, socket.MSG_DONTWAIT):
                break
    connection.close()
