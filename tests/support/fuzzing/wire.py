"""Input over a network: HTTP/2 frames to the gRPC port, over each transport, and bytes to the HTTP port."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import random_frames
from neighbours import Neighbours

from .mutate import Mutator
from .rest import seeds
from .server import write_repository

TRANSPORTS = ("h2corn", "grpcio")
GROWTH_MIB = 320
_READ_S = 5
_GRPCIO = '"library": "grpc._cython.cygrpc"'


class WireServer:
    """A server process."""

    def __init__(self, folder: Path, transport: str, *options: str, waits: bool = True) -> None:
        """Starts it; waits until it serves, or has failed to, unless told not to."""
        command = [
            sys.executable,
            "-m",
            "pixelserve",
            "serve",
            "--model-repository",
            str(folder),
            "--transport",
            transport,
        ]
        command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--access-log-per-s=0", "--max-message-mib=4"]
        command += options
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        self.failures: list[str] = []
        self.said: deque[str] = deque(maxlen=5)
        """The last lines of its log."""
        self.fields: dict[str, Any] = {}
        self._is_serving = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if waits:
            self._is_serving.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)
                if '"event": "serving"' in line:
                    self.fields = json.loads(line)
                    self._is_serving.set()
                # grpcio logs a traceback for a path that is no text, and refuses the call as it should.
                elif "unexpected failure" in line or ("Traceback" in line and _GRPCIO not in line):
                    self.failures.append(line)
        self._is_serving.set()

    def memory_mib(self, field: str = "VmRSS") -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    def kill(self) -> None:
        """Ends it at once, wherever it is."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self) -> None:
        self.process.terminate()
        if (code := self.process.wait()) != 0:
            self.failures.append(f"the server ended with {code}")
        self._reader.join()


@contextmanager
def wire_server(
    transport: str, *options: str, prepare: Callable[[Path], object] = lambda _: None
) -> Iterator[WireServer]:
    """Starts a server on three small models, and stops it.

    Args:
        transport: what --transport names.
        options: more arguments of `pixelserve serve`.
        prepare: adds to the folder of models.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder))
        prepare(Path(folder))
        server = WireServer(Path(folder), transport, *options)
        try:
            yield server
        finally:
            server.stop()


def http_bytes(mutator: Mutator) -> list[bytes]:
    """Returns what to send on one connection of the HTTP port: requests in pieces, chunked or changed, one behind the
    other."""
    sent = b""
    for _ in range(mutator.random.randint(1, 4)):
        request = mutator.random.choice(seeds())
        head, _, body = request.partition(b"\r\n\r\n")
        if mutator.chance(0.4):
            size = mutator.random.choice((1, 3, 100, 5000))
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            head += b"\r\nTransfer-Encoding: chunked"
        else:
            head += b"\r\nContent-Length: %d" % len(body)
        request = head + b"\r\n\r\n" + body
        sent += mutator.octets(request, seeds()) if mutator.chance(0.5) else request
    cuts = sorted(mutator.random.randint(0, len(sent)) for _ in range(mutator.random.choice((0, 1, 20))))
    return [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


def send_http(address: str, pieces: list[bytes]) -> bytes:
    """Sends pieces on a connection; returns what comes until the server ends it or has nothing more to say."""
    host, _, port = address.rpartition(":")
    answer = b""
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=_READ_S) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(1 << 16):
            answer += data
    return answer


def fuzz_wire(transport: str, seed: int, *, connections: int, seconds: float) -> tuple[int, list[str]]:
    """Fuzzes both ports of a server; returns how many connections there were, and what failed."""
    end_s = time.monotonic() + seconds
    failures: list[str] = []
    number = 0
    with wire_server(transport) as server:
        http = urlsplit(server.fields["http"]).netloc
        start_mib = server.memory_mib()
        with Neighbours(server.fields["grpc"]) as neighbours:
            while number < connections and time.monotonic() < end_s and server.process.poll() is None:
                number += 1
                random_frames.send(server.fields["grpc"], seed, number)
                answer = send_http(http, http_bytes(Mutator(f"{seed}-http-{number}")))
                if b"HTTP/1.1 500" in answer or b"internal error" in answer:
                    failures.append(f"seed {seed}, HTTP connection {number}: {answer[:500]!r}")
        failures += [f"a neighbour lost calls: {reason} ({count})" for reason, count in neighbours.lost.items()]
        if (grown_mib := server.memory_mib("VmHWM") - start_mib) > GROWTH_MIB:
            failures.append(f"the server grew by {grown_mib:.0f} MiB")
    return number, [*failures, *server.failures]
