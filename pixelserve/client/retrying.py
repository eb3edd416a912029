"""Decides whether and when to retry a call. No I/O: the clients wait."""

import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from .channel import Endpoint
from .errors import error_for
from .limits import Retry

# gRPC's key, and PixelServe's for transports that cannot send it.
_PUSHBACKS = ("grpc-retry-pushback-ms", "retry-pushback-ms")


@dataclass(frozen=True)
class Failure:
    """A failed attempt."""

    code: grpc.StatusCode
    """Its status."""
    message: str
    """The message from the server or gRPC."""
    address: str
    """The address of the attempt."""
    pushback_s: float | None = None
    """The server's requested wait; negative: never retry; None: not sent."""
    proxy: str = ""
    """The environment variable of the proxy that gRPC may have used, or empty."""

    @classmethod
    def of(cls, error: grpc.RpcError, endpoint: Endpoint) -> "Failure":
        """Converts an error of grpcio's synchronous or asynchronous API."""
        code, message, trailing = error.code(), error.details(), error.trailing_metadata()
        return cls(code, message or "", endpoint.address, _pushback_s(trailing or ()), endpoint.proxy)


class Attempts:
    """Counts the attempts of one call, and decides after each failure whether to retry."""

    def __init__(self, retry: Retry, timeout_s: float, addresses: int = 1) -> None:
        """Starts the clock.

        Args:
            retry: the number of attempts and the waits.
            timeout_s: seconds for all attempts and waits together; infinite: no deadline.
            addresses: the number of addresses for the attempts.
        """
        self._retry = retry
        self._addresses = addresses
        self._deadline_s = time.monotonic() + timeout_s
        self._failures = 0

    def remaining_s(self) -> float | None:
        """Returns the seconds until the deadline, at least 0, or None without one."""
        if math.isinf(self._deadline_s):
            return None
        return max(self._deadline_s - time.monotonic(), 0.0)

    def wait_after(self, failure: Failure) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises:
            CallError: no attempt is left; this is the call's error.
        """
        self._failures += 1
        wait_s = self._wait_s(failure) if self._may_try_again(failure) else math.inf
        # An attempt after the deadline could only give a less informative error than this failure.
        if time.monotonic() + wait_s >= self._deadline_s or math.isinf(wait_s):
            raise error_for(
                failure.code,
                failure.message,
                address=failure.address,
                attempts=self._failures,
                proxy=failure.proxy,
            )
        return wait_s

    def _may_try_again(self, failure: Failure) -> bool:
        if self._failures >= self._retry.attempts:
            return False
        if failure.pushback_s is not None and failure.pushback_s < 0:
            return False
        is_full = failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED and failure.pushback_s is not None
        return is_full or failure.code is grpc.StatusCode.UNAVAILABLE

    def _wait_s(self, failure: Failure) -> float:
        rounds, turn = divmod(self._failures, self._addresses)
        if failure.pushback_s is not None:
            # The requested wait, and longer if it is requested again, because it did not help.
            again_s = self._backoff_s(self._failures) if self._failures > 1 else 0.0
            return max(failure.pushback_s, again_s)
        # A wait relieves the failed server; the next address is another server.
        return 0.0 if turn else self._backoff_s(rounds)

    def _backoff_s(self, failures: int) -> float:
        return self._retry.backoff_s(failures, random.random())  # noqa: S311  (jitter is no secret)


def _pushback_s(trailing: Iterable[Any]) -> float | None:
    for key, value in trailing:
        if key in _PUSHBACKS:
            try:
                return int(value) / 1000
            except ValueError:
                # gRPC's rule for unreadable values: do not retry (gRFC A6).
                return -1.0
    return None
