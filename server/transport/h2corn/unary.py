"""Unary calls: a request read whole and bounded, an answer awaited and sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ...api.call import Call
from ...api.status import Status, status_of
from ...errors import InvalidRequest, RequestError, Unimplemented
from .. import Services
from . import framing
from .handover import Answers, Arrivals
from .patience import Patience

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Answers of fewer bytes are bounded by how many calls a connection may have in flight.
_HELD_BYTES = 16 * 1024
# The front takes a larger body at once, and counts it nowhere.
_CHUNK_BYTES = 256 * 1024
# Unpacking more than this is left to another thread, so that the loop goes on.
_QUICK_BYTES = 64 * 1024

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": framing.RESPONSE_HEADERS,
    "trailers": True,
}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
_EMPTY = {"type": "http.response.body", "body": b""}


class Left(Exception):
    """The caller has left before its request was whole."""


class Refused(Exception):
    """A request that is not handed to the dispatcher; carries the status that its caller gets."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class UnaryCall(Call):
    """One call, answered on the loop."""

    def __init__(self, carrier: "UnaryCalls", scope: dict[str, Any], deadline_s: float | None) -> None:
        # Written out rather than inherited: this is done for every call.
        self.deadline_s = deadline_s
        self.may_compute = False
        self.future = carrier.loop.create_future()
        self.held_bytes = 0
        self._carrier = carrier
        self._scope = scope
        self._claims = [None]
        self._on_cancel: Callable[[], None] | None = None
        self._has_left = False

    @property
    def peer(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else ""

    def metadata(self) -> Iterator[tuple[str, str | bytes]]:
        return framing.metadata(self._scope["headers"])

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback
        # The caller may have left before anybody wanted to know.
        if self._has_left:
            callback()

    def leave(self) -> None:
        self._has_left = True
        # Taken first, since an answer may remove it at any moment.
        callback = self._on_cancel
        if callback is not None:
            callback()

    def claim(self) -> bool:
        # The request knows its call: without this the two would wait for the garbage collector.
        self._on_cancel = None
        try:
            # One operation of the interpreter, so it needs no lock.
            self._claims.pop()
        except IndexError:
            return False
        return True

    def send(self, message: bytes) -> None:
        if len(message) >= _HELD_BYTES:
            # It counts as in flight until it is sent.
            self.held_bytes = len(message)
            self._carrier.admission.hold(self.held_bytes)
        self._carrier.answers.put(self, message)

    def send_status(self, status: Status) -> None:
        self._carrier.answers.put(self, status)

    def deliver(self, answer: bytes | Status) -> None:
        if self.future.done():
            self.let_go()
        else:
            self.future.set_result(answer)

    def let_go(self) -> None:
        """Counts its answer no more. Belongs to the loop's thread."""
        held_bytes, self.held_bytes = self.held_bytes, 0
        if held_bytes:
            self._carrier.admission.release(held_bytes)


class UnaryCalls:
    """Carries unary calls. Belongs to the loop's thread."""

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

    async def carry(self, method: str, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Carries one call from its first byte to its last."""
        headers = dict(scope["headers"])
        timeout = headers.get(b"grpc-timeout")
        call = UnaryCall(self, scope, None)
        try:
            if timeout is not None:
                call.deadline_s = time.monotonic() + framing.answerable_s(timeout)
            body = await self._read(receive)
            message = body[framing.PREFIX_BYTES :] if not body[0] else await self._unpacked(body, headers)
        except Left:
            return
        except Refused as error:
            self._dispatcher.refuse(method, call, error.status)
        except RequestError as error:
            self._dispatcher.refuse(method, call, status_of(error))
        else:
            self._arrivals.add(method, message, call)
        try:
            answer = await call.future
            with self._patience:
                await _answer(send, call, answer, self._patience)
        except asyncio.CancelledError:
            call.leave()
            raise
        except OSError:
            # The caller has left while it was being answered.
            pass
        finally:
            call.let_go()

    async def _read(self, receive: Receive) -> bytes:
        """Returns the request's body: one message with its prefix.

        Raises:
            Left: the caller has left.
            Refused, RequestError: the body is too large, or not one message.
        """
        event = await receive()
        body: bytes = event.get("body", b"")
        if event.get("more_body"):
            event = await receive()
            if event.get("more_body") or event.get("body"):
                return await self._read_on(body, event, receive)
        if event["type"] == "http.disconnect":
            raise Left
        self._check(body, is_whole=True)
        return body

    async def _read_on(self, body: bytes, event: dict[str, Any], receive: Receive) -> bytes:
        """Goes on where a body has come in part; its bytes count as in flight meanwhile."""
        held_bytes = len(body)
        chunks = [body]
        self.admission.hold(held_bytes)
        try:
            while True:
                if event["type"] == "http.disconnect":
                    raise Left
                chunk = event.get("body", b"")
                self.admission.hold_more(len(chunk), held_bytes)
                held_bytes += len(chunk)
                chunks.append(chunk)
                if held_bytes >= framing.PREFIX_BYTES:
                    if len(chunks[0]) < framing.PREFIX_BYTES:
                        chunks = [b"".join(chunks)]
                    self._check(chunks[0], size_bytes=held_bytes, is_whole=not event.get("more_body"))
                if not event.get("more_body"):
                    self._check(chunks[0], size_bytes=held_bytes, is_whole=True)
                    return b"".join(chunks)
                event = await receive()
        finally:
            self.admission.release(held_bytes)

    def _check(self, start: bytes, *, size_bytes: int | None = None, is_whole: bool) -> None:
        """Checks a body that begins so, and has so many bytes up to now."""
        size_bytes = len(start) if size_bytes is None else size_bytes
        if size_bytes < framing.PREFIX_BYTES:
            raise Unimplemented(f"the call has {size_bytes} bytes; expected one message, which this method takes")
        if start[0] > 1:
            raise InvalidRequest(f"a message begins with byte {start[0]}; expected 0, or 1 where it is compressed")
        declared = int.from_bytes(start[1 : framing.PREFIX_BYTES], "big")
        if declared > self._max_bytes:
            raise Refused(framing.too_large(declared, self._max_bytes))
        expected = declared + framing.PREFIX_BYTES
        if size_bytes > expected:
            raise Unimplemented(
                f"{size_bytes - expected:,} bytes follow a message of {declared:,}; this method takes one message"
            )
        if is_whole and size_bytes < expected:
            raise InvalidRequest(
                f"the message has {size_bytes - framing.PREFIX_BYTES:,} bytes where its prefix says {declared:,}; "
                f"send all of it"
            )

    async def _unpacked(self, body: bytes, headers: dict[bytes, bytes]) -> bytes:
        return await unpacked(body[framing.PREFIX_BYTES :], headers.get(b"grpc-encoding", b""), self._max_bytes)


async def unpacked(packed: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """Returns a compressed message as it was.

    Raises:
        Unimplemented: it is in an encoding that is not known.
        InvalidRequest: it is not in that encoding.
        Refused: it is too large.
    """
    framing.check_encoding(encoding)
    try:
        if len(packed) <= _QUICK_BYTES:
            return framing.unpack(packed, encoding, max_bytes)
        return await asyncio.to_thread(framing.unpack, packed, encoding, max_bytes)
    except framing.TooLarge as error:
        raise Refused(framing.too_large(max_bytes + 1, max_bytes)) from error


async def _answer(send: Send, call: UnaryCall, answer: bytes | Status, patience: Patience) -> None:
    if not isinstance(answer, bytes):
        await end_with(send, answer)
        return
    await send(_START)
    await send_body(send, framing.frame(answer), patience)
    if call.trailing:
        await send({**_OK, "headers": [(b"grpc-status", b"0"), *framing.encoded_metadata(call.trailing)]})
    else:
        await send(_OK)


async def send_body(send: Send, body: bytes, patience: Patience, *, more: bool = False) -> None:
    """Sends a body, or (where there is `more`) a part of one."""
    start = 0
    while len(body) - start > _CHUNK_BYTES:
        await send({"type": "http.response.body", "body": body[start : start + _CHUNK_BYTES], "more_body": True})
        patience.progress()
        start += _CHUNK_BYTES
    await send({"type": "http.response.body", "body": body[start:] if start else body, "more_body": more})


async def end_with(send: Send, status: Status) -> None:
    """Answers with nothing but a status."""
    headers = [*framing.RESPONSE_HEADERS, *framing.trailers(status)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(_EMPTY)
