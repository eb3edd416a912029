"""Cancellable calls of the synchronous client."""

import threading
from collections.abc import Callable
from typing import Any

import grpc


class Flight:
    """The pending calls of one iteration. After its end, no call starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self._ended = threading.Event()

    def result(self, start: Callable[[], Any]) -> Any:
        """Starts a call, waits for it and returns its answer.

        Raises:
            grpc.RpcError: the call failed.
            grpc.FutureCancelledError: the flight has ended, before the call or during it.
        """
        with self._lock:
            if self._ended.is_set():
                raise grpc.FutureCancelledError
            call = start()
            self._calls.add(call)
        try:
            return call.result()
        finally:
            with self._lock:
                self._calls.discard(call)

    def end(self) -> None:
        """Cancels the pending calls."""
        with self._lock:
            self._ended.set()
            calls = list(self._calls)
        # Outside the lock: cancelling wakes the waiting threads, which acquire it.
        for call in calls:
            call.cancel()
