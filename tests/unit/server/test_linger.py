"""Connections that stay open for their clients after the server has closed them."""

import gc
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelserve_server.deadline import Deadline
from pixelserve_server.transport.linger import close_when_sent, end_closed, held_connections, unsent

TIMEOUT_S = 30


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def connect(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Returns a connection's two sides: the client's, and ours."""
    client = socket.create_connection(listening.getsockname(), timeout=TIMEOUT_S)
    return client, listening.accept()[0]


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def test_what_a_client_sends_to_a_closed_connection_resets_it_unless_it_is_held(listening: socket.socket) -> None:
    for is_held in (False, True):
        client, ours = connect(listening)
        with client:
            held = held_connections(port_of(listening)) if is_held else []
            ours.sendall(b"the last answer")
            ours.close()
            # The answer to the first would be a reset, which is there before the second is sent.
            client.sendall(b"a call")
            if is_held:
                client.sendall(b"another")
                assert client.recv(100) == b"the last answer"
            else:
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    client.sendall(b"another")
            for each in held:
                each.close()


def test_only_connections_of_the_port_are_held(listening: socket.socket, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, (tmp_path / "file").open("w"):
        other = connect(elsewhere)
        clients, ours = zip(*(connect(listening) for _ in range(3)), strict=True)
        held = held_connections(port_of(listening))
        # The clients' sides are of this process too, and have other ports.
        assert sorted(each.getpeername() for each in held) == sorted(each.getsockname() for each in clients)
        for each in (*other, *clients, *ours, *held):
            each.close()


def test_a_held_connection_ends_when_it_is_let_go(listening: socket.socket) -> None:
    client, ours = connect(listening)
    with client:
        (held,) = held_connections(port_of(listening))
        ours.close()
        held.close()
        assert client.recv(1) == b""


def test_looking_for_connections_leaves_no_descriptor_open(listening: socket.socket) -> None:
    client, ours = connect(listening)
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("this system lists a process's open files elsewhere")
    gc.collect()
    before = len(list(folder.iterdir()))
    for each in held_connections(port_of(listening)):
        each.close()
    assert len(list(folder.iterdir())) == before
    client.close()
    ours.close()


def test_without_connections_nothing_is_held(listening: socket.socket) -> None:
    assert held_connections(port_of(listening)) == []


def test_a_connection_is_closed_when_its_reader_has_everything(listening: socket.socket) -> None:
    """Timeline: 1. more is written than a reader takes, and our side is closed; 2. the copy has something unsent, also
    at a deadline; 3. the reader reads, and sends; 4. everything is sent, and the reader sees the end of it."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        client.connect(listening.getsockname())
        ours = listening.accept()[0]
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        written = ours.send(bytes(1 << 20))
        (held,) = held_connections(port_of(listening))
        ours.close()
        assert unsent([held]) == [held]
        assert close_when_sent([held.dup()], Deadline.after(0)) == 1
        left: list[int] = []
        closing = threading.Thread(target=lambda: left.append(close_when_sent([held], Deadline.after(TIMEOUT_S))))
        closing.start()
        client.sendall(b"a call that no one reads")
        read = 0
        while read < written:
            read += len(client.recv(1 << 16))
        closing.join(TIMEOUT_S)
        assert left == [0]
        assert client.recv(1) == b""


def test_a_connection_whose_reader_has_gone_has_nothing_unsent(listening: socket.socket) -> None:
    client, ours = connect(listening)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.setblocking(False)
    ours.send(bytes(1 << 20))
    (held,) = held_connections(port_of(listening))
    # With this option, a reset.
    client.close()
    assert close_when_sent([held], Deadline.after(TIMEOUT_S)) == 0
    ours.close()


def test_a_connection_that_is_held_twice_is_one(listening: socket.socket) -> None:
    client, ours = connect(listening)
    first = held_connections(port_of(listening))
    second = held_connections(port_of(listening))
    assert (len(first), len(second)) == (1, 1)
    for each in (client, ours, *first, *second):
        each.close()


def test_copies_are_not_copied_again(listening: socket.socket) -> None:
    """Otherwise unread data would stay for as long as a client's connections are replaced."""
    client, ours = connect(listening)
    copy = held_connections(port_of(listening))
    ours.close()
    assert held_connections(port_of(listening), besides=[each.fileno() for each in copy]) == []
    for each in (client, *copy):
        each.close()


def test_the_client_of_a_connection_that_was_closed_hears_so_while_it_is_held(listening: socket.socket) -> None:
    (closed, ours), (living, also_ours) = connect(listening), connect(listening)
    held = held_connections(port_of(listening))
    ours.close()
    end_closed(held)
    assert closed.recv(1) == b""
    also_ours.sendall(b"x")
    assert living.recv(1) == b"x"
    for each in (closed, living, also_ours, *held):
        each.close()
