"""Sends prepared bytes over gRPC, with as little overhead as grpcio allows."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from .errors import BenchError
from .workload import CLASSIFY, Workload


class LoadSender:
    """Sends the next request of a workload, over each channel in turn.

    Uses grpcio's futures with callbacks, not grpc.aio: the callback runs on the channel's thread as soon as the answer
    arrives, without an event loop; docs/cli.md has the comparison.
    """

    def __init__(
        self,
        channels: Sequence[grpc.Channel],
        workload: Workload,
        *,
        timeout_s: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`metadata` is sent with every request."""
        self._calls: list[Any] = [channel.unary_unary(workload.method) for channel in channels]
        self._workload = workload
        self._timeout_s = timeout_s
        self._metadata = tuple(metadata) or None
        # next() of a count is atomic.
        self._numbers = itertools.count()

    def connect(self) -> None:
        """Sends one request over each channel and waits for the answers.

        Raises:
            BenchError: one failed, or its answer was invalid.
        """
        for call in self._calls:
            try:
                answer = call(self._workload.bodies[0], timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                raise BenchError(f"the first request failed: {_describe(error)}") from error
            if self._workload.method == CLASSIFY:
                _check_pictures(answer)

    def send(self, on_done: Callable[[str], None]) -> None:
        """Sends the next request; calls `on_done` with the name of its status when it ends, on any thread."""
        number = next(self._numbers)
        call = self._calls[number % len(self._calls)]
        body = self._workload.bodies[number % len(self._workload.bodies)]
        try:
            future = call.future(body, timeout=self._timeout_s, metadata=self._metadata)
        except ValueError:
            # The channel was closed meanwhile.
            on_done(grpc.StatusCode.CANCELLED.name)
            return
        future.add_done_callback(lambda done: on_done(done.code().name))


def _describe(error: Any) -> str:
    # grpcio raises a Call, although its types do not say so.
    return f"{error.code().name}: {error.details()}"


def _check_pictures(answer: bytes) -> None:
    from pixelserve.v1 import classifier_pb2 as pb

    for result in pb.ClassifyResponse.FromString(answer).results:
        if result.error:
            raise BenchError(f"the server cannot read a picture of the first request: {result.error}")
