"""Calls with retries for threads; retrying decides."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from .channel import Configuration, Rotation
from .connections import ServerConnection
from .errors import CLOSED, Cancelled, ClosedError
from .flight import Flight
from .limits import Retry
from .retrying import Attempts, Failure


class ConnectionPool:
    """Makes calls over the servers' connections in turn. Thread-safe."""

    def __init__(self, configuration: Configuration) -> None:
        """Creates the connections, which connect on the first call."""
        self._configuration = configuration
        self._connections = Rotation([ServerConnection(each, configuration) for each in configuration.endpoints])
        self._closed = threading.Event()
        # A sleep that closing interrupts.
        self._sleep: Callable[[float], object] = self._closed.wait

    def call(
        self,
        method: str,
        request: Message,
        timeout_s: float,
        *,
        retry: Retry | None = None,
        flight: Flight | None = None,
    ) -> Any:
        """Makes a call, with retries as `retry` allows (None: the client's), and returns its answer.

        Raises:
            CallError: it failed permanently, or its flight has ended.
            ClosedError: the client was closed, before or during the call.
        """
        attempts = Attempts(retry or self._configuration.retry, timeout_s, len(self._connections.all))
        while True:
            self.check_open()
            connection = self._connections.next()
            try:
                return connection.call(method, request, attempts.remaining_s(), flight)
            except grpc.FutureCancelledError as error:
                self.check_open()
                raise Cancelled(grpc.StatusCode.CANCELLED, "the answer is no longer needed") from error
            except grpc.RpcError as error:
                self.check_open()
                self._sleep(attempts.wait_after(Failure.of(error, connection.endpoint)))
            except ValueError:
                # grpcio raises this for a channel that was just closed; other ValueErrors are re-raised.
                self.check_open()
                raise

    def close(self) -> None:
        """Ends pending calls and waits with `ClosedError`, and closes the connections."""
        self._closed.set()
        for connection in self._connections.all:
            connection.channel.close()

    def check_open(self) -> None:
        """Checks that the client is open.

        Raises:
            ClosedError: the client was closed.
        """
        if self._closed.is_set():
            raise ClosedError(CLOSED)
