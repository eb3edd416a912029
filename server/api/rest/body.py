"""Bodies: read whole and bounded, decompressed on the way in, compressed on the way out."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from ...errors import InvalidRequest, QueueFull
from .status import CallerLeft, HttpError, too_large

# zlib's window sizes for the two formats; HTTP's deflate is zlib's format (RFC 9110, 8.4.1.2).
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
# Smaller answers do not become smaller.
_MIN_COMPRESSED_BYTES = 512
# A sender that is silent for this long in the middle of a body has gone, or wants to hold the connection.
_SILENCE_S = 30.0
_SETTING = "--max-message-mib"


class BodyReader:
    """Reads requests' bodies, and bounds what all of them hold together. Belongs to the event loop's thread."""

    def __init__(self, max_bytes: int, max_held_bytes: int) -> None:
        """Starts out holding nothing.

        Args:
            max_bytes: largest body taken, as sent and decompressed.
            max_held_bytes: most bytes that the bodies of unanswered requests may have together.
        """
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0

    @asynccontextmanager
    async def body_of(self, request: Request) -> AsyncIterator[bytes]:
        """Gives a request's body, decompressed; its bytes count until the context is left.

        Raises:
            HttpError: it is too large, too slow, or in an encoding that is not known.
            QueueFull: the bodies of other requests hold too many bytes.
            InvalidRequest: it is not in the encoding that it claims.
            CallerLeft: the connection was closed in the middle of it.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity" and encoding not in _WINDOW_BITS:
            raise HttpError(415, f'Content-Encoding is "{encoding}"; expected gzip, deflate or none')
        held: list[int] = []
        try:
            body = await self._read(request, held)
            if encoding != "identity":
                # Outside the loop's thread: zlib gives the interpreter away meanwhile.
                body = await asyncio.to_thread(_decompress, body, encoding, self._max_bytes)
                self._hold(len(body), held)
            yield body
        finally:
            self._held_bytes -= sum(held)

    def _hold(self, size_bytes: int, held: list[int]) -> None:
        if self._held_bytes and self._held_bytes + size_bytes > self._max_held_bytes:
            raise QueueFull(
                f"the bodies of HTTP requests that wait for an answer have {self._held_bytes:,} bytes, and at most "
                f"{self._max_held_bytes:,} are held at once (--max-inflight-mib); retry later"
            )
        self._held_bytes += size_bytes
        held.append(size_bytes)

    async def _read(self, request: Request, held: list[int]) -> bytes:
        refusal = too_large("the body", self._max_bytes, _SETTING)
        # A sender that reads only when it has written would not see an answer in between: what is not much too large
        # is read to its end, and thrown away.
        patience_bytes = 2 * self._max_bytes
        if (declared := request.headers.get("content-length", "")).isdecimal() and int(declared) > patience_bytes:
            raise refusal
        chunks: list[bytes] = []
        size = 0
        async for chunk in _chunks(request):
            size += len(chunk)
            if size > patience_bytes:
                raise refusal
            if size <= self._max_bytes:
                self._hold(len(chunk), held)
                chunks.append(chunk)
            else:
                chunks.clear()
        if size > self._max_bytes:
            raise refusal
        return b"".join(chunks)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                chunk = await anext(stream)
            yield chunk
    except StopAsyncIteration:
        return
    except ClientDisconnect as error:
        raise CallerLeft from error
    except TimeoutError as error:
        raise HttpError(
            408, f"no byte of the body came for {_SILENCE_S:.0f} s; send it without a pause", {"Connection": "close"}
        ) from error


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        # One byte more than is taken says that there is too much, however much there is.
        unpacked = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"Content-Encoding is {encoding} and the body is not: {error}") from error
    if len(unpacked) > max_bytes:
        raise too_large("the body, decompressed,", max_bytes, _SETTING)
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequest(f"Content-Encoding is {encoding} and the body is cut off, or has more behind its end")
    return unpacked


async def compressed(body: bytes, accept_encoding: str) -> tuple[bytes, str | None]:
    """Returns an answer's body in an encoding that the caller accepts, and the encoding's name; None: as it is."""
    accepted = _accepted(accept_encoding)
    encoding = next((name for name in _WINDOW_BITS if name in accepted), None)
    if encoding is None or len(body) < _MIN_COMPRESSED_BYTES:
        return body, None
    return await asyncio.to_thread(_compress, body, encoding), encoding


def _accepted(header: str) -> set[str]:
    """Returns the encodings that an Accept-Encoding header names, but those that it gives no weight."""
    named = (item.replace(" ", "").lower().partition(";") for item in header.split(","))
    return {name for name, _, weight in named if not weight.startswith("q=0") or weight.strip("q=0.")}


def _compress(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    return packer.compress(body) + packer.flush()
