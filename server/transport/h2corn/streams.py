"""Streaming calls: messages are read while there is room for them, answers are written as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from ...api.call import Call
from ...api.handover import Answers, Arrivals
from ...api.status import CallStatus, status_of
from ...api.streaming import HandOver, OpenStream, StreamedMethod
from ...errors import InvalidRequest, RequestError
from .. import Services
from . import framing
from .patience import Patience
from .unary import Receive, Refused, Send, end_with, send_body, unpacked

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": framing.RESPONSE_HEADERS,
    "trailers": True,
}
_NO_MORE = {"type": "http.response.body", "body": b""}

# Pending answers are written together, up to about this size.
_WRITE_BYTES = 64 * 1024


class _Bell:
    """Wakes a coroutine of the loop from any thread."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._answers.put(self, None)

    def deliver(self, answer: object) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()


class StreamedCalls:
    """Handles streaming calls. Belongs to the loop's thread."""

    def __init__(
        self, services: Services, answers: Answers, arrivals: Arrivals, patience: Patience, max_bytes: int
    ) -> None:
        self._admission = services.admission
        self._answers = answers
        self._arrivals = arrivals
        self._patience = patience
        self._max_bytes = max_bytes

    async def carry(
        self,
        method: StreamedMethod,
        scope: dict[str, Any],
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        """Handles one call."""
        bell = _Bell(self._answers)
        try:
            timeout = headers.get(b"grpc-timeout")
            deadline_s = None if timeout is None else time.monotonic() + framing.answerable_s(timeout)
            metadata = tuple(framing.metadata(scope["headers"]))
            stream = method.open(deadline_s, metadata, on_change=bell.ring, hand_over=self._hand_over(scope))
        except RequestError as error:
            await end_with(send, status_of(error))
            return
        room = asyncio.Event()
        reader = asyncio.ensure_future(self._read(stream, headers, receive, room))
        try:
            await send(_START)
            status = await self._write(stream, send, bell, room, reader)
            await send(_NO_MORE)
            ending = [(b"grpc-status", b"0")] if status is None else framing.trailers(status)
            await send({"type": "http.response.trailers", "headers": ending})
        except OSError:
            # The client has left.
            pass
        finally:
            reader.cancel()
            stream.close()

    def _hand_over(self, scope: dict[str, Any]) -> HandOver:
        client = scope.get("client")

        def add(name: str, message: bytes, call: Call) -> None:
            call.sender = client
            self._arrivals.add(name, message, call)

        return add

    async def _write(
        self,
        stream: OpenStream,
        send: Send,
        bell: _Bell,
        room: asyncio.Event,
        reader: "asyncio.Future[CallStatus | None]",
    ) -> CallStatus | None:
        """Writes all answers; returns the call's status."""
        reader.add_done_callback(lambda _: bell.ring())
        while True:
            written = await self._write_all(stream, send)
            if written:
                room.set()
                continue
            if stream.is_over:
                break
            if reader.done() and (refusal := reader.result()) is not None:
                return refusal
            await bell.wait()
        return stream.status

    async def _write_all(self, stream: OpenStream, send: Send) -> int:
        """Writes pending answers; returns their number."""
        count = 0
        sending, task = self._patience.sending, asyncio.current_task()
        while parts := list(_ready(stream)):
            body = b"".join(parts)
            # Answers count as in flight until they are sent.
            self._admission.hold(len(body))
            try:
                sending[task] = 0
                await send_body(send, body, sending, more=True)
            finally:
                sending.pop(task, None)
                self._admission.release(len(body))
            for _ in parts:
                stream.written()
            count += len(parts)
        return count

    async def _read(
        self, stream: OpenStream, headers: dict[bytes, bytes], receive: Receive, room: asyncio.Event
    ) -> CallStatus | None:
        """Reads all messages; returns the status of an invalid one, or None."""
        try:
            async for message in self._messages(receive, headers):
                while not stream.has_room:
                    room.clear()
                    await room.wait()
                stream.take(message)
        except Refused as error:
            return error.status
        except RequestError as error:
            return status_of(error)
        stream.finish()
        return None

    async def _messages(self, receive: Receive, headers: dict[bytes, bytes]) -> AsyncIterator[bytes]:
        """Yields messages as they come; bytes of an incomplete one count as in flight."""
        buffer = bytearray()
        held_bytes = 0
        try:
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return
                buffer += event.get("body", b"")
                for message, is_packed in self._split(buffer):
                    yield await unpacked(message, headers, self._max_bytes, self._admission) if is_packed else message
                if not event.get("more_body"):
                    break
                self._admission.release(held_bytes)
                held_bytes = 0
                self._admission.hold_more(len(buffer), 0)
                held_bytes = len(buffer)
        finally:
            self._admission.release(held_bytes)
        if buffer:
            raise InvalidRequest(f"the stream ends in the middle of a message, after {len(buffer):,} bytes of it")

    def _split(self, buffer: bytearray) -> Iterable[tuple[bytes, int]]:
        """Removes complete messages from a buffer and yields each with its compression flag."""
        at = 0
        try:
            while len(buffer) - at >= framing.PREFIX_BYTES:
                start = at + framing.PREFIX_BYTES
                is_packed, size_bytes = buffer[at], int.from_bytes(buffer[at + 1 : start], "big")
                if is_packed > 1:
                    raise InvalidRequest(
                        f"a message begins with byte {is_packed}; expected 0, or 1 where it is compressed"
                    )
                if size_bytes > self._max_bytes:
                    raise Refused(framing.too_large(size_bytes, self._max_bytes))
                if len(buffer) < start + size_bytes:
                    break
                at = start + size_bytes
                yield bytes(buffer[start:at]), is_packed
        finally:
            del buffer[:at]


def _ready(stream: OpenStream) -> Iterable[bytes]:
    """Yields pending answers with their prefixes."""
    size_bytes = 0
    while size_bytes < _WRITE_BYTES and (answer := stream.next_answer()) is not None:
        size_bytes += len(answer)
        yield framing.prefix(answer) + answer
