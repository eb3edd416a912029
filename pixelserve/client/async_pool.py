"""Calls with retries for asyncio; retrying decides."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from .channel import Configuration, Rotation
from .connections import AsyncServerConnection
from .errors import CLOSED, ClosedError
from .limits import Retry
from .retrying import Attempts, Failure


class AsyncConnectionPool:
    """Makes calls over the servers' connections in turn. Bound to the event loop of the first call."""

    def __init__(self, configuration: Configuration) -> None:
        """Creates no connections yet: they need a running loop."""
        self._configuration = configuration
        self._connections: Rotation[AsyncServerConnection] | None = None
        self._closed = asyncio.Event()
        self._sleep: Callable[[float], Awaitable[object]] = self._sleep_unless_closed

    async def call(self, method: str, request: Message, timeout_s: float, *, retry: Retry | None = None) -> Any:
        """Makes a call, with retries as `retry` allows (None: the client's), and returns its answer.

        Cancelling the task cancels the call.

        Raises:
            CallError: it failed permanently.
            ClosedError: the client was closed, before or during the call.
        """
        connections = self._open_connections()
        attempts = Attempts(retry or self._configuration.retry, timeout_s, len(connections.all))
        while True:
            self._check_open()
            connection = connections.next()
            try:
                return await connection.call(method, request, attempts.remaining_s())
            except asyncio.CancelledError:
                # Closing a channel makes grpcio cancel its calls, which looks like a cancelled task.
                if not _is_task_cancelled():
                    self._check_open()
                raise
            except grpc.aio.UsageError:
                # grpcio raises this for a channel that was just closed.
                self._check_open()
                raise
            except grpc.RpcError as error:
                self._check_open()
                await self._sleep(attempts.wait_after(Failure.of(error, connection.endpoint)))

    async def close(self) -> None:
        """Ends pending calls and waits with `ClosedError`, and closes the connections."""
        self._closed.set()
        for connection in self._connections.all if self._connections else ():
            await connection.channel.close()

    def _open_connections(self) -> Rotation[AsyncServerConnection]:
        self._check_open()
        if self._connections is None:
            self._connections = Rotation(
                [AsyncServerConnection(each, self._configuration) for each in self._configuration.endpoints]
            )
        return self._connections

    async def _sleep_unless_closed(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), wait_s)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClosedError(CLOSED)


def _is_task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
