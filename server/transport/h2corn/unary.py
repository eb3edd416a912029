"""Unary calls: reads a bounded request, awaits the answer and sends it."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ...api.admission import Admission
from ...api.handover import Answers, Arrivals, LoopCall
from ...api.status import CallStatus, status_of
from ...api.unpacking import Holding, Left, TooLarge, unpack
from ...errors import InvalidRequest, RequestError, Unimplemented
from .. import Services
from . import framing
from .patience import Patience

_PREFIX_BYTES = framing.PREFIX_BYTES

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Smaller answers are bounded by the calls in flight per connection.
_HELD_BYTES = 16 * 1024
# h2corn takes larger bodies at once, without counting them.
_CHUNK_BYTES = 256 * 1024
# Larger messages are decompressed on another thread, to keep the loop responsive.
_QUICK_BYTES = 64 * 1024

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": framing.RESPONSE_HEADERS,
    "trailers": True,
}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
_REQUEST = "http.request"
_EMPTY = {"type": "http.response.body", "body": b""}


class Refused(Exception):
    """A request that does not reach the dispatcher, with the status for its caller."""

    def __init__(self, status: CallStatus) -> None:
        super().__init__(status.message)
        self.status = status


class UnaryCall(LoopCall):
    """One unary call of gRPC."""

    held_bytes = 0
    """Bytes of its answer that count as in flight."""

    def __init__(self, carrier: "UnaryCalls", scope: dict[str, Any]) -> None:
        super().__init__(carrier.loop, carrier.answers, scope)
        self._in_flight = carrier.admission

    def metadata(self) -> Iterator[tuple[str, str | bytes]]:
        return framing.metadata(self._scope["headers"])

    def hold(self, message: bytes) -> CallStatus | None:
        if len(message) < _HELD_BYTES:
            return None
        refusal = self._in_flight.hold_answer(self, len(message))
        if refusal is None:
            self.held_bytes = len(message)
        return refusal

    def deliver(self, answer: bytes | CallStatus) -> None:
        super().deliver(answer)
        if self.answer.cancelled():
            self.let_go()

    def let_go(self) -> None:
        """Stops counting its answer. Belongs to the loop's thread."""
        held_bytes, self.held_bytes = self.held_bytes, 0
        if held_bytes:
            self._in_flight.release(held_bytes)


class UnaryCalls:
    """Handles unary calls. Belongs to the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        services: Services,
        answers: Answers,
        arrivals: Arrivals,
        patience: Patience,
        max_bytes: int,
    ) -> None:
        self.loop = loop
        self.admission = services.admission
        self.answers = answers
        self._dispatcher = services.dispatcher
        self._arrivals = arrivals
        self._patience = patience
        self._max_bytes = max_bytes
        self.reading = 0
        """Number of calls with incomplete requests."""

    async def carry(
        self, method: str, scope: dict[str, Any], headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Handles one call; raises only CancelledError.

        Args:
            method: its full name.
            scope: ASGI's scope; `headers` has the last value of each name.
            headers: the request's headers.
            receive: ASGI's receive.
            send: ASGI's send.
        """
        # One function for the common case: another coroutine costs as much as a model look-up.
        call = UnaryCall(self, scope)
        self.reading += 1
        try:
            timeout = headers.get(b"grpc-timeout")
            if timeout is not None:
                call.deadline_s = time.monotonic() + framing.answerable_s(timeout)
            event = await receive()
            body = event.get("body", b"")
            rest = b""
            if event.get("more_body"):
                # Usually the end of the request.
                event = await receive()
                rest = event.get("body", b"")
            message = body[_PREFIX_BYTES:]
            is_whole = not rest and not event.get("more_body") and event["type"] == _REQUEST
            if not is_whole or body[:_PREFIX_BYTES] != framing.prefix(message):
                # An incomplete request uses memory shared by all.
                self._dispatcher.check_caller(method, call.metadata())
                message = await self._read_on(body, event, headers, receive)
            if len(message) > self._max_bytes:
                raise Refused(framing.too_large(len(message), self._max_bytes))
        except Left:
            return
        except Refused as refusal:
            self._dispatcher.refuse(method, call, refusal.status)
        except RequestError as error:
            self._dispatcher.refuse(method, call, status_of(error))
        except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
            self._dispatcher.fail(method, call, error)
        else:
            self._arrivals.add(method, message, call)
        finally:
            self.reading -= 1
        sending, task = self._patience.sending, asyncio.current_task()
        try:
            answer = await call.answer
            sending[task] = 0
            if isinstance(answer, bytes):
                await send(_START)
                await send_body(send, answer, sending, prefix=framing.prefix(answer))
                await send(_ended(call.trailing) if call.trailing else _OK)
                if call.held_bytes:
                    # h2corn took the answer, and reports the end of the exchange, when the reader has it.
                    sending[task] = self._patience.until_read(call.held_bytes)
                    await receive()
            else:
                await end_with(send, answer)
        except asyncio.CancelledError:
            call.leave()
            raise
        except OSError:
            # The caller left while it was being answered.
            pass
        finally:
            sending.pop(task, None)
            if call.held_bytes:
                call.let_go()

    async def _read_on(
        self, body: bytes, event: dict[str, Any], headers: dict[bytes, bytes], receive: Receive
    ) -> bytes:
        """Returns the message of a body that is incomplete, compressed or invalid.

        Its bytes count as in flight meanwhile.

        Args:
            body: the first part.
            event: the last event, which may hold the same part.
            headers: the request's headers.
            receive: ASGI's receive.

        Raises:
            Left: the caller has left.
            Refused, RequestError: the body is too large, or not one message.
        """
        held_bytes = len(body)
        start, chunks = body, [body]
        self.admission.hold(held_bytes)
        try:
            while True:
                if event["type"] == "http.disconnect":
                    raise Left
                chunk = b"" if event.get("body") is body else event.get("body", b"")
                self.admission.hold_more(len(chunk), held_bytes)
                held_bytes += len(chunk)
                chunks.append(chunk)
                if len(start) < _PREFIX_BYTES:
                    start += chunk
                is_whole = not event.get("more_body")
                if is_whole or held_bytes >= _PREFIX_BYTES:
                    self._check(start, held_bytes, is_whole=is_whole)
                if is_whole:
                    break
                event = await receive()
            message = memoryview(b"".join(chunks))[_PREFIX_BYTES:].tobytes()
            return await unpacked(message, headers, self._max_bytes, self.admission) if start[0] else message
        finally:
            self.admission.release(held_bytes)

    def _check(self, start: bytes, size_bytes: int, *, is_whole: bool) -> None:
        """Checks a body by its first bytes and its size so far."""
        if size_bytes < _PREFIX_BYTES:
            raise Unimplemented(f"the call has {size_bytes} bytes; expected one message, which this method takes")
        if start[0] > 1:
            raise InvalidRequest(f"a message begins with byte {start[0]}; expected 0, or 1 where it is compressed")
        declared = int.from_bytes(start[1:_PREFIX_BYTES], "big")
        if declared > self._max_bytes:
            raise Refused(framing.too_large(declared, self._max_bytes))
        expected = declared + _PREFIX_BYTES
        if size_bytes > expected:
            raise Unimplemented(
                f"{size_bytes - expected:,} bytes follow a message of {declared:,}; this method takes one message"
            )
        if is_whole and size_bytes < expected:
            raise InvalidRequest(
                f"the message has {size_bytes - _PREFIX_BYTES:,} bytes where its prefix says {declared:,}; "
                f"send all of it"
            )


async def unpacked(packed: bytes, headers: dict[bytes, bytes], max_bytes: int, admission: Admission) -> bytes:
    """Decompresses a message. Its bytes count as in flight meanwhile.

    Raises:
        Unimplemented: its encoding is unknown.
        InvalidRequest: it is not valid in its encoding.
        QueueFull: too many bytes are in flight.
        Refused: it is too large.
    """
    encoding = headers.get(b"grpc-encoding", b"")
    framing.check_encoding(encoding)
    name = encoding.decode()
    if len(packed) <= _QUICK_BYTES <= max_bytes:
        # Its size says nothing about its content, which may be a thousand times larger.
        with suppress(TooLarge):
            return unpack(packed, name, _QUICK_BYTES)
    held = Holding(admission.hold_more, admission.release)
    try:
        return await asyncio.to_thread(unpack, packed, name, max_bytes, held.hold)
    except TooLarge as error:
        raise Refused(framing.too_large(max_bytes + 1, max_bytes)) from error
    finally:
        held.end()


def _ended(trailing: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns the event that ends an answered call, with its trailing metadata."""
    return {**_OK, "headers": [(b"grpc-status", b"0"), *framing.encoded_metadata(trailing)]}


async def send_body(
    send: Send,
    body: bytes,
    sending: dict[asyncio.Task[Any] | None, int],
    *,
    prefix: bytes = b"",
    more: bool = False,
) -> None:
    """Sends a body, or a part of one if there is `more`, and records progress for `Patience`."""
    start = 0
    while len(body) - start > _CHUNK_BYTES:
        # Large answers are never copied whole: many may wait for their readers.
        chunk = body[start : start + _CHUNK_BYTES]
        await send({"type": "http.response.body", "body": chunk if start else prefix + chunk, "more_body": True})
        sending[asyncio.current_task()] = 0
        start += _CHUNK_BYTES
    await send({"type": "http.response.body", "body": body[start:] if start else prefix + body, "more_body": more})


async def end_with(send: Send, status: CallStatus) -> None:
    """Answers with a status only, unless the caller has left."""
    with suppress(OSError):
        await send(_start_and_end(status))
        await send(_EMPTY)


# Under overload the same refusal is sent thousands of times per second.
@functools.lru_cache(maxsize=256)
def _start_and_end(status: CallStatus) -> dict[str, Any]:
    headers = [*framing.RESPONSE_HEADERS, *framing.trailers(status)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
