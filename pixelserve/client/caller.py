"""Calls with retries for threads; the decisions are those of retrying."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from .channel import Configuration, Rotation
from .errors import CLOSED, Cancelled, ClosedError
from .flight import Flight
from .lanes import Lane
from .limits import Retry
from .retrying import Attempts, Failure


class Caller:
    """Makes calls on channels in turn. Any thread may call, and any may close."""

    def __init__(self, configuration: Configuration) -> None:
        """Makes the channels, which connect with the first call."""
        self._configuration = configuration
        self._lanes = Rotation([Lane(each, configuration) for each in configuration.endpoints])
        self._closed = threading.Event()
        # A wait that closing ends.
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
        """Makes a call, as often as `retry` allows (None: the client's), and returns its answer.

        Raises:
            CallError: it failed for good, or its flight has ended.
            ClosedError: the caller has been closed, before or during the call.
        """
        attempts = Attempts(retry or self._configuration.retry, timeout_s, len(self._lanes.channels))
        while True:
            self.check_open()
            lane = self._lanes.next()
            try:
                return lane.call(method, request, attempts.remaining_s(), flight)
            except grpc.FutureCancelledError as error:
                self.check_open()
                raise Cancelled(grpc.StatusCode.CANCELLED, "the answer is no longer needed") from error
            except grpc.RpcError as error:
                self.check_open()
                self._sleep(attempts.wait_after(Failure.of(error, lane.endpoint)))
            except ValueError:
                # What grpcio raises for a channel that was closed an instant ago; any other is not ours to hide.
                self.check_open()
                raise

    def close(self) -> None:
        """Ends calls and waits under way with `ClosedError`, and the connections."""
        self._closed.set()
        for lane in self._lanes.channels:
            lane.channel.close()

    def check_open(self) -> None:
        """Does nothing.

        Raises:
            ClosedError: the caller has been closed.
        """
        if self._closed.is_set():
            raise ClosedError(CLOSED)
