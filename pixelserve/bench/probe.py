"""A polite client: one request at a time, in its own process, so the load generator never delays it."""

import multiprocessing
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from .errors import BenchError
from .http2 import Connection

_ANSWER_S = 20.0
# A client without pauses would keep the server busy by itself.
_PAUSE_S = 0.005


@dataclass(frozen=True)
class Probe:
    """One request of the polite client."""

    start_s: float
    """When it was sent, by `time.monotonic()`."""
    latency_s: float
    """Seconds until it ended."""
    status: int
    """Its gRPC status."""


class Polite:
    """The client's process, seen from its parent."""

    def __init__(self, pipe: "Pipe[None, list[Probe] | str]") -> None:
        self._pipe = pipe
        self._probes: list[Probe] | None = None

    def end(self) -> list[Probe]:
        """Ends the client and returns its requests in order.

        Raises:
            BenchError: it failed.
        """
        if self._probes is None:
            self._pipe.send(None)
            found = self._pipe.recv()
            if isinstance(found, str):
                raise BenchError(f"the polite client failed: {found}")
            self._probes = found
        return self._probes


@contextmanager
def polite(
    host: str, port: int, method: str, bodies: Sequence[bytes], fields: Sequence[tuple[str, str]]
) -> Iterator[Polite]:
    """Runs the client until the block ends; the arguments are a `Connection`'s."""
    context = multiprocessing.get_context("spawn")
    own, its = context.Pipe()
    process = context.Process(target=_work, args=(its, host, port, method, bodies, fields), daemon=True)
    process.start()
    its.close()
    try:
        yield Polite(own)
    finally:
        own.close()
        process.join(_ANSWER_S)
        process.kill()


def _work(
    pipe: "Pipe[list[Probe] | str, None]",
    host: str,
    port: int,
    method: str,
    bodies: Sequence[bytes],
    fields: Sequence[tuple[str, str]],
) -> None:
    probes: list[Probe] = []
    try:
        connection = Connection(host, port, method, bodies, fields)
        while not pipe.poll(_PAUSE_S):
            probes.append(_ask(connection))
        pipe.send(probes)
    except (BenchError, OSError) as error:
        # The parent may have failed first.
        with suppress(OSError):
            pipe.send(str(error))


def _ask(connection: Connection) -> Probe:
    found: list[Probe] = []
    start_s = time.monotonic()
    connection.send(start_s)
    while not found:
        wanted = [connection.socket]
        readable, writable, _ = select.select(wanted, wanted if connection.has_output else [], [], _ANSWER_S)
        if not readable and not writable:
            raise BenchError(f"no answer for {_ANSWER_S:g} s")
        if writable:
            connection.write()
        if readable:
            connection.read(lambda due_s, status: found.append(Probe(due_s, time.monotonic() - due_s, status)))
    return found[0]
