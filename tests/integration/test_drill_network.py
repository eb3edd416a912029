"""The drill's network: addresses for servers, and the forwarder that acts as a ClusterIP."""

import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.drill.balancers import Forwarder
from deploy.drill.pods import HTTP_PORT
from deploy.drill.topology import topology

pytestmark = pytest.mark.slow


class Named(http.server.BaseHTTPRequestHandler):
    """Answers with the address that it was called at, on a connection that stays open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def backends() -> Iterator[list[str]]:
    """Two HTTP servers with an address each, on the port of the servers' HTTP API."""
    with topology("loopback") as network:
        servers = [http.server.ThreadingHTTPServer((network.place().address, HTTP_PORT), Named) for _ in range(2)]
        threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in servers]
        for thread in threads:
            thread.start()
        yield [str(each.server_address[0]) for each in servers]
        for each in servers:
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join()


@pytest.fixture
def forwarder(tmp_path: Path) -> Iterator[Forwarder]:
    started = Forwarder("127.0.0.1", tmp_path)
    started.start()
    yield started
    started.close()


def connect(forwarder: Forwarder) -> socket.socket:
    host, _, port = forwarder.http.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ask(connection: socket.socket) -> str:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")
    return connection.recv(4096).decode().rpartition("\r\n")[2] or connection.recv(4096).decode()


def test_new_connections_follow_the_endpoints_and_those_there_are_stay(
    forwarder: Forwarder, backends: list[str]
) -> None:
    first, second = backends
    forwarder.publish([first])
    with connect(forwarder) as old:
        assert ask(old) == first
        forwarder.publish([second])
        with connect(forwarder) as new:
            assert ask(new) == second
        assert ask(old) == first


def is_reset(forwarder: Forwarder) -> bool:
    try:
        with connect(forwarder) as refused:
            refused.recv(1)
            return False
    except ConnectionResetError:
        return True


def test_without_endpoints_a_connection_is_reset(forwarder: Forwarder) -> None:
    assert is_reset(forwarder)


def test_a_backend_that_does_not_listen_resets_the_connection(forwarder: Forwarder, backends: list[str]) -> None:
    forwarder.publish([f"{backends[0].rpartition('.')[0]}.99"])
    assert is_reset(forwarder)


def test_every_place_has_an_address_of_its_own_and_nothing_of_it_stays() -> None:
    with topology() as network:
        places = [network.place() for _ in range(3)]
        assert len({each.address for each in places} | {network.balancer}) == 4
        for place in places:
            # A server can take its address there.
            listen = f"import socket; socket.create_server(('{place.address}', 0)).close()"
            subprocess.run([*place.prefix, "python3", "-c", listen], check=True, timeout=60)
    if os.geteuid() == 0 and (ip := shutil.which("ip")):
        shown = subprocess.run([ip, "netns", "list"], capture_output=True, text=True, timeout=60).stdout
        assert f"drill{os.getpid()}" not in shown
