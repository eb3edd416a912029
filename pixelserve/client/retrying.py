"""Whether and when a call is tried again. No input or output: the clients do the waiting."""

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

# gRPC's own key, and what a PixelServe server sends where its transport cannot carry that.
_PUSHBACKS = ("grpc-retry-pushback-ms", "retry-pushback-ms")


@dataclass(frozen=True)
class Failure:
    """How one attempt ended."""

    code: grpc.StatusCode
    """Its status."""
    message: str
    """What the server, or gRPC, said."""
    address: str
    """Where the attempt went."""
    pushback_s: float | None = None
    """How long the server asks to wait; negative: for ever; None: it does not say."""
    proxy: str = ""
    """The environment variable whose proxy gRPC may have asked; empty: none."""

    @classmethod
    def of(cls, error: grpc.RpcError, endpoint: Endpoint) -> "Failure":
        """Reads what grpcio raised, in either of its two ways of doing calls."""
        code, message, trailing = error.code(), error.details(), error.trailing_metadata()
        return cls(code, message or "", endpoint.address, _pushback_s(trailing or ()), endpoint.proxy)


class Attempts:
    """Counts the attempts of one call, and decides after each that failed what comes next."""

    def __init__(self, retry: Retry, timeout_s: float, addresses: int = 1) -> None:
        """Starts the clock.

        Args:
            retry: how often, and how far apart.
            timeout_s: seconds for all attempts and waits together; infinite: no deadline.
            addresses: among how many addresses the attempts take turns.
        """
        self._retry = retry
        self._addresses = addresses
        self._deadline_s = time.monotonic() + timeout_s
        self._failures = 0

    def remaining_s(self) -> float | None:
        """Returns the seconds until the deadline, at least 0; None: there is none."""
        if math.isinf(self._deadline_s):
            return None
        return max(self._deadline_s - time.monotonic(), 0.0)

    def wait_after(self, failure: Failure) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises:
            CallError: there is none, and this is how the call ended.
        """
        self._failures += 1
        wait_s = self._wait_s(failure) if self._may_try_again(failure) else math.inf
        # An attempt that starts after the deadline could only tell less than this failure does.
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
            # As told, and longer where it is told again: what was told did not help.
            again_s = self._backoff_s(self._failures) if self._failures > 1 else 0.0
            return max(failure.pushback_s, again_s)
        # A wait spares the server that failed; the next address is another one.
        return 0.0 if turn else self._backoff_s(rounds)

    def _backoff_s(self, failures: int) -> float:
        return self._retry.backoff_s(failures, random.random())  # noqa: S311  (jitter is no secret)


def _pushback_s(trailing: Iterable[Any]) -> float | None:
    for key, value in trailing:
        if key in _PUSHBACKS:
            try:
                return int(value) / 1000
            except ValueError:
                # gRPC's rule for what cannot be read: do not retry (gRFC A6).
                return -1.0
    return None
