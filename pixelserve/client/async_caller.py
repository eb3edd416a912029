"""Calls with retries for asyncio; the decisions are those of retrying."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from .channel import Configuration, Rotation
from .errors import CLOSED, ClosedError
from .lanes import AsyncLane
from .limits import Retry
from .retrying import Attempts, Failure


class AsyncCaller:
    """Makes calls on channels in turn. Any task of the event loop that calls first may call, and any may close."""

    def __init__(self, configuration: Configuration) -> None:
        """Makes no channel yet: one belongs to a running loop, and there may be none."""
        self._configuration = configuration
        self._lanes: Rotation[AsyncLane] | None = None
        self._closed = asyncio.Event()
        self._sleep: Callable[[float], Awaitable[object]] = self._sleep_unless_closed

    async def call(self, method: str, request: Message, timeout_s: float, *, retry: Retry | None = None) -> Any:
        """Makes a call, as often as `retry` allows (None: the client's), and returns its answer.

        Cancelling the task cancels the call.

        Raises:
            CallError: it failed for good.
            ClosedError: the caller has been closed, before or during the call.
        """
        lanes = self._open_lanes()
        attempts = Attempts(retry or self._configuration.retry, timeout_s, len(lanes.channels))
        while True:
            self._check_open()
            lane = lanes.next()
            try:
                return await lane.call(method, request, attempts.remaining_s())
            except asyncio.CancelledError:
                # grpcio cancels the calls of a channel that is closed, which looks as if the task had been cancelled.
                if not _is_task_cancelled():
                    self._check_open()
                raise
            except grpc.aio.UsageError:
                # What grpcio raises for a channel that was closed an instant ago.
                self._check_open()
                raise
            except grpc.RpcError as error:
                self._check_open()
                await self._sleep(attempts.wait_after(Failure.of(error, lane.endpoint)))

    async def close(self) -> None:
        """Ends calls and waits under way with `ClosedError`, and the connections."""
        self._closed.set()
        for lane in self._lanes.channels if self._lanes else ():
            await lane.channel.close()

    def _open_lanes(self) -> Rotation[AsyncLane]:
        self._check_open()
        if self._lanes is None:
            self._lanes = Rotation([AsyncLane(each, self._configuration) for each in self._configuration.endpoints])
        return self._lanes

    async def _sleep_unless_closed(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), wait_s)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClosedError(CLOSED)


def _is_task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
