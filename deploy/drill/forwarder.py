"""A plain TCP forwarder like a ClusterIP: each connection goes to a random ready backend and stays there.

    python -m deploy.drill.forwarder --endpoints FILE --listen HOST:PORT=BACKEND_PORT

FILE contains a JSON list of addresses. It is reread when it changes; existing connections stay with their backend.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 65536
_CONNECT_TIMEOUT_S = 5.0
_NO_LINGER = struct.pack("ii", 1, 0)


class Forwarder:
    """Forwards connections to the endpoints in a file."""

    def __init__(self, endpoints: Path) -> None:
        self._endpoints = endpoints

    async def forward(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connects a client to a backend, and copies until both have closed."""
        backend = None
        with suppress(OSError, TimeoutError, IndexError):
            address = random.choice(json.loads(self._endpoints.read_text()))  # noqa: S311
            backend = await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_TIMEOUT_S)
        if backend is None:
            # What clients of a ClusterIP see for a dead pod.
            _reset(writer)
            return
        ends = await asyncio.gather(_copy(reader, backend[1]), _copy(backend[0], writer))
        for each in (writer, backend[1]):
            if all(ends):
                each.close()
            else:
                _reset(each)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Copies until the end; returns False if the connection broke, so the other side is broken too."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        _reset(writer)
        return False
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _serve(endpoints: Path, listens: list[str]) -> None:
    forwarder = Forwarder(endpoints)
    servers = []
    for listen in listens:
        address, _, backend_port = listen.partition("=")
        host, _, port = address.rpartition(":")

        async def forward(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend_port: int = int(backend_port)
        ) -> None:
            await forwarder.forward(backend_port, reader, writer)

        servers.append(await asyncio.start_server(forward, host, int(port)))
    await asyncio.gather(*(each.serve_forever() for each in servers))


def main() -> None:
    """Forwards until terminated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=Path, required=True, help="JSON list of backend addresses")
    parser.add_argument("--listen", action="append", required=True, help="HOST:PORT=BACKEND_PORT; may be repeated")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.endpoints, options.listen))


if __name__ == "__main__":
    main()
