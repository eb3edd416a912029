"""Reads complete, bounded request bodies and decompresses them; compresses answers."""

import asyncio
import threading
import zlib
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from ...errors import QueueFull
from ..unpacking import WINDOW_BITS, Holding, TooLarge, unpack
from .status import CallerLeft, HttpError, too_large

# Compression does not shrink smaller answers.
_MIN_COMPRESSED_BYTES = 512
# Passing a body to another thread costs about as much as parsing this much JSON.
_QUICK_BYTES = 16 * 1024
# Share of the transport's time-out, after which it closes the connection without an answer.
_PATIENCE = 0.9
_SETTING = "--max-message-mib"

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns the next ASGI event of a request."""


class BodyReader:
    """Reads requests' bodies and bounds their total size. `hold` and `release` are thread-safe.

    Args:
        max_bytes: maximum size of a body, both as sent and decompressed.
        max_held_bytes: maximum total bytes of the bodies of unanswered requests.
        idle_s: seconds that a body may pause before the transport ends its connection.
    """

    def __init__(self, max_bytes: int, max_held_bytes: int, idle_s: float) -> None:
        self.max_bytes = max_bytes
        self.patience_s = idle_s * _PATIENCE
        self._max_held_bytes = max_held_bytes
        self.held_bytes = 0
        """Number of held bytes."""
        # Bodies are decompressed on other threads.
        self._lock = threading.Lock()

    def room(self) -> "BodyRoom":
        """Returns a context for one request's body, which counts until the context exits."""
        return BodyRoom(self)

    def hold(self, size_bytes: int, own_bytes: int = 0) -> None:
        """Counts bytes of a body, beyond `own_bytes` already counted; a single body of any size is accepted.

        Raises:
            QueueFull: other requests' bodies hold too many bytes.
        """
        with self._lock:
            if self.held_bytes > own_bytes and self.held_bytes + size_bytes > self._max_held_bytes:
                raise QueueFull(
                    f"the bodies of HTTP requests that wait for an answer have {self.held_bytes:,} bytes, and at most "
                    f"{self._max_held_bytes:,} are held at once (--max-inflight-mib); retry later"
                )
            self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Stops counting bytes."""
        with self._lock:
            self.held_bytes -= size_bytes


class BodyRoom:
    """Counts one request's body while its context is entered."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._holding = Holding(reader.hold, reader.release)

    def __enter__(self) -> "BodyRoom":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holding.end()

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Returns a request's decompressed body.

        Args:
            headers: the request's headers, by lower-case name.
            receive: returns the body's parts.

        Raises:
            HttpError: it is too large, too slow, or in an unknown encoding.
            QueueFull: other requests' bodies hold too many bytes.
            InvalidRequest: it is not in the declared encoding.
            CallerLeft: the connection was closed before its end.
        """
        encoding = _encoding(headers)
        body = await self._read(headers, receive)
        if encoding != "identity":
            # Off the loop's thread: zlib releases the GIL.
            packed_bytes, hold = len(body), self._holding.hold
            body = await asyncio.to_thread(_decompress, body, encoding, self._reader.max_bytes, hold)
            self._holding.release(packed_bytes)
        return body

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        # Keep no error in a variable: it would keep `receive` alive until garbage collection, and with it the
        # connection, whose transport waits for the body to be read or dropped.
        max_bytes = self._reader.max_bytes
        # A client that reads only after writing would miss an early answer, so a body that is slightly too large is
        # read to its end and dropped.
        patience_bytes = 2 * max_bytes
        if (declared := headers.get(b"content-length", b"")).isdigit() and int(declared) > patience_bytes:
            raise too_large("the body", max_bytes, _SETTING)
        chunks: list[bytes] = []
        size = 0
        # Most bodies arrive at once; before the first byte, the transport applies its own time-out.
        event = await receive()
        while True:
            if event["type"] == "http.disconnect":
                raise CallerLeft
            chunk = event.get("body", b"")
            size += len(chunk)
            if size > patience_bytes:
                raise too_large("the body", max_bytes, _SETTING)
            if size <= max_bytes:
                self._holding.hold(len(chunk))
                chunks.append(chunk)
            else:
                chunks.clear()
            if not event.get("more_body"):
                break
            event = await _next(receive, self._reader.patience_s)
        if size > max_bytes:
            raise too_large("the body", max_bytes, _SETTING)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _encoding(headers: Mapping[bytes, bytes]) -> str:
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return "identity"
    name = encoding.decode("latin-1").strip().lower()
    if name != "identity" and name not in WINDOW_BITS:
        raise HttpError(415, f'Content-Encoding is "{name}"; expected gzip, deflate or none')
    return name


async def _next(receive: Receive, patience_s: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(patience_s):
            return await receive()
    except TimeoutError as error:
        raise HttpError(
            408,
            f"no byte of the body came for {patience_s:g} s (--idle-body-timeout-s); send it without a pause",
            {"Connection": "close"},
        ) from error


def _decompress(body: bytes, encoding: str, max_bytes: int, reserve: Callable[[int], object]) -> bytes:
    try:
        return unpack(body, encoding, max_bytes, reserve, header="Content-Encoding", what="body")
    except TooLarge as error:
        raise too_large("the body, decompressed,", max_bytes, _SETTING) from error


async def translated(size_bytes: int, translate: Callable[..., T], *args: Any) -> T:
    """Returns `translate()`, called on another thread for large bodies to keep the loop responsive."""
    if size_bytes <= _QUICK_BYTES:
        return translate(*args)
    return await asyncio.to_thread(translate, *args)


async def compressed(body: bytes, accept_encoding: str) -> tuple[bytes, str | None]:
    """Returns an answer's body in an accepted encoding and the encoding's name; None: unchanged."""
    if len(body) < _MIN_COMPRESSED_BYTES:
        return body, None
    accepted = accepted_encodings(accept_encoding)
    encoding = next((name for name in WINDOW_BITS if name in accepted), None)
    if encoding is None:
        return body, None
    return await asyncio.to_thread(_compress, body, encoding), encoding


def accepted_encodings(header: str) -> set[str]:
    """Returns the encodings in an Accept-Encoding header, without those of weight 0."""
    named = (item.replace(" ", "").lower().partition(";") for item in header.split(","))
    return {name for name, _, weight in named if not weight.startswith("q=0") or weight.strip("q=0.")}


def _compress(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(wbits=WINDOW_BITS[encoding])
    return packer.compress(body) + packer.flush()
