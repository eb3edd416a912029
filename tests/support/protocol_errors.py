"""h2spec's cases, reimplemented: one violation of HTTP/2 or HPACK each, with the permitted reactions.

The numbers are sections of RFC 9113 (HTTP/2) and, with an H, of RFC 7541 (HPACK). Priorities, which RFC 9113 dropped,
are left out.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from attacks import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GOOD,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH,
    RESET,
    SETTINGS,
    WINDOW,
)
from raw_http2 import block, call_headers, frame, unindexed

CONNECTION, STREAM, IGNORED = "connection", "stream", "ignored"
"""How it may end: with the connection; with its stream, or the connection; or as if nothing had been sent."""

LARGEST_FRAME = 65_536
"""Bytes of a frame that the servers take; HTTP/2 allows them to take more than 16,384."""
CALL = frame(HEADERS, END_HEADERS, 1, HEAD) + frame(DATA, END_STREAM, 1, GOOD)
OPEN = frame(HEADERS, END_HEADERS, 1, HEAD)
HALF_CLOSED = OPEN + frame(DATA, END_STREAM, 1, GOOD[:3])
"""A call without an end to its message; the server has it whole, since no more may come."""
REFUSED = frame(RESET, 0, 1, struct.pack(">I", 8))
_WINDOW_OF_MOST = struct.pack(">I", (1 << 31) - 1)


@dataclass(frozen=True)
class Case:
    """One broken rule."""

    name: str
    sent: bytes
    """Behind the preface, on a connection of its own."""
    ends: str
    waits_for: int = 0
    """A stream whose end is waited for before `then` is sent; 0: nothing is."""
    then: bytes = b""


def _settings(identifier: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", identifier, value))


def _headers(content: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, content)


def _changed(change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> bytes:
    """Returns a call whose headers are others."""
    return frame(HEADERS, END_HEADERS, 1, block(change(call_headers()))) + frame(DATA, END_STREAM, 1, GOOD)


def _without(name: str) -> bytes:
    return _changed(lambda headers: [each for each in headers if each[0] != name])


def _with(name: str, value: str) -> bytes:
    return _changed(lambda headers: [*headers, (name, value)])


FRAMES = [
    Case("4.1 an unknown type of frame", frame(0xFA, 0, 0, b"12345678"), IGNORED),
    Case("4.1 undefined flags", frame(PING, 0x16, 0, bytes(8)), IGNORED),
    Case("4.1 the reserved bit", frame(PING, 0, 1 << 31, bytes(8)), IGNORED),
    Case("4.2 DATA above the largest frame", OPEN + frame(DATA, END_STREAM, 1, bytes(LARGEST_FRAME + 1)), STREAM),
    Case("4.2 HEADERS above the largest frame", _headers(HEAD + unindexed(b"x", bytes(LARGEST_FRAME + 1))), CONNECTION),
    Case("4.3 a header block that is none", _headers(b"\xff\xff\xff\xff\xff\xff"), CONNECTION),
    Case("4.3 PRIORITY amid headers", frame(HEADERS, 0, 1, HEAD) + frame(PRIORITY, 0, 1, bytes(5)), CONNECTION),
    Case("4.3 another stream amid headers", frame(HEADERS, 0, 1, HEAD) + frame(HEADERS, 4, 3, HEAD), CONNECTION),
    Case("5.5 an unknown frame amid headers", frame(HEADERS, 0, 1, HEAD) + frame(0xFA, 0, 0, b"1234"), CONNECTION),
    Case("6.1 DATA on no stream", frame(DATA, END_STREAM, 0, b"x"), CONNECTION),
    Case("6.1 padding longer than DATA", OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x09x"), CONNECTION),
    Case("6.2 HEADERS on no stream", frame(HEADERS, END_HEADERS, 0, HEAD), CONNECTION),
    Case("6.2 padding longer than HEADERS", frame(HEADERS, PADDED | 5, 1, b"\xff" + HEAD[:20]), CONNECTION),
    Case("6.4 RST_STREAM on no stream", frame(RESET, 0, 0, bytes(4)), CONNECTION),
    Case("6.4 RST_STREAM of another size", OPEN + frame(RESET, 0, 1, bytes(3)), CONNECTION),
    Case("6.5 SETTINGS acknowledged with content", frame(SETTINGS, 1, 0, bytes(6)), CONNECTION),
    Case("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, bytes(6)), CONNECTION),
    Case("6.5 SETTINGS of a size that is none", frame(SETTINGS, 0, 0, bytes(3)), CONNECTION),
    Case("6.5.2 ENABLE_PUSH of 2", _settings(2, 2), CONNECTION),
    Case("6.5.2 a first window of 2 GiB", _settings(4, 1 << 31), CONNECTION),
    Case("6.5.2 a largest frame below 16,384", _settings(5, 16_383), CONNECTION),
    Case("6.5.2 a largest frame of 16 MiB", _settings(5, 1 << 24), CONNECTION),
    Case("6.5.2 an unknown setting", _settings(0xFA, 1), IGNORED),
    Case("6.6 PUSH_PROMISE from a client", frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + HEAD), CONNECTION),
    Case("6.7 PING on a stream", frame(PING, 0, 1, bytes(8)), CONNECTION),
    Case("6.7 PING of another size", frame(PING, 0, 0, bytes(6)), CONNECTION),
    Case("6.7 PING acknowledged that was not sent", frame(PING, 1, 0, bytes(8)), IGNORED),
    Case("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), CONNECTION),
    Case("6.9 WINDOW_UPDATE of 0", frame(WINDOW, 0, 0, bytes(4)), CONNECTION),
    Case("6.9 WINDOW_UPDATE of 0 on a stream", OPEN + frame(WINDOW, 0, 1, bytes(4)), STREAM),
    Case("6.9 WINDOW_UPDATE of another size", frame(WINDOW, 0, 0, bytes(3)), CONNECTION),
    Case("6.9.1 a window above 2 GiB", 2 * frame(WINDOW, 0, 0, _WINDOW_OF_MOST), CONNECTION),
    Case("6.9.1 a stream's window above 2 GiB", OPEN + 2 * frame(WINDOW, 0, 1, _WINDOW_OF_MOST), STREAM),
    Case("6.10 CONTINUATION on no stream", frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 4, 0, b""), CONNECTION),
    Case("6.10 CONTINUATION of nothing", OPEN + frame(CONTINUATION, 4, 1, b""), CONNECTION),
    Case("6.10 DATA amid headers", frame(HEADERS, 0, 1, HEAD) + frame(DATA, 0, 1, b"x"), CONNECTION),
]

STREAMS = [
    Case("3.4 another preface", b"", CONNECTION),
    Case("5.1 DATA on an idle stream", frame(DATA, END_STREAM, 1, b"x"), CONNECTION),
    Case("5.1 RST_STREAM on an idle stream", REFUSED, CONNECTION),
    Case("5.1 WINDOW_UPDATE on an idle stream", frame(WINDOW, 0, 1, struct.pack(">I", 100)), CONNECTION),
    Case("5.1 CONTINUATION on an idle stream", frame(CONTINUATION, 4, 1, HEAD), CONNECTION),
    Case("5.1 DATA after the end", CALL + frame(DATA, END_STREAM, 1, b"x"), STREAM),
    Case("5.1 HEADERS after the end", CALL + frame(HEADERS, 5, 1, HEAD), STREAM),
    Case("5.1 CONTINUATION after the end", CALL + frame(CONTINUATION, 4, 1, HEAD), CONNECTION),
    Case("5.1 DATA after a reset", OPEN + REFUSED + frame(DATA, END_STREAM, 1, b"x"), STREAM),
    Case("5.1 HEADERS after a reset", OPEN + REFUSED + frame(HEADERS, 5, 1, HEAD), STREAM),
    Case("5.1 DATA on a closed stream", CALL, STREAM, 1, frame(DATA, END_STREAM, 1, b"x")),
    Case("5.1 HEADERS on a closed stream", CALL, CONNECTION, 1, frame(HEADERS, 5, 1, HEAD)),
    Case("5.1.1 a stream of an even number", frame(HEADERS, 5, 2, HEAD), CONNECTION),
    Case("5.1.1 a stream of a lower number", frame(HEADERS, 4, 5, HEAD) + frame(HEADERS, 4, 3, HEAD), CONNECTION),
]

MESSAGES = [
    Case("8.1 a second HEADERS without an end", OPEN + frame(HEADERS, END_HEADERS, 1, HEAD), STREAM),
    Case("8.2.1 a header in capitals", _with("X-TEST", "ok"), STREAM),
    Case("8.2.2 a header of the connection", _with("connection", "keep-alive"), STREAM),
    Case("8.2.2 TE of another value", _with("te", "trailers, deflate"), STREAM),
    Case("8.3 an unknown pseudo-header", _with(":test", "ok"), STREAM),
    Case("8.3 a pseudo-header of an answer", _with(":status", "200"), STREAM),
    Case("8.3 a pseudo-header behind the others", _changed(lambda headers: headers[1:] + headers[:1]), STREAM),
    Case("8.3.1 an empty path", _changed(lambda h: [(n, "" if n == ":path" else v) for n, v in h]), STREAM),
    *[Case(f"8.3.1 no {name}", _without(name), STREAM) for name in (":method", ":scheme", ":path")],
    *[
        Case(f"8.3.1 {name} twice", _changed(lambda headers, at=at: [headers[at], *headers]), STREAM)  # type: ignore[misc]
        for at, name in enumerate((":method", ":scheme", ":path"))
    ],
    Case(
        "8.1 a pseudo-header in trailers",
        OPEN + frame(DATA, 0, 1, GOOD) + frame(HEADERS, 5, 1, block([(":method", "POST")])),
        STREAM,
    ),
    Case("8.1.1 a content-length that lies", _with("content-length", "1"), STREAM),
]

_LITERAL = b"\x00\x85\xf2\xb2\x4a\x84\xff"
COMPRESSION = [
    Case("H2.3.3 an index beyond the tables", _headers(HEAD + b"\xf0"), CONNECTION),
    Case("H2.3.3 a name's index beyond the tables", _headers(HEAD + b"\x7f\xff\x01\x01x"), CONNECTION),
    Case("H4.2 a table's size behind headers", _headers(HEAD + b"\x20"), CONNECTION),
    Case("H5.2 Huffman padded with more than 7 bits", _headers(HEAD + _LITERAL + b"\x49\x50\x9f\xff"), CONNECTION),
    Case("H5.2 Huffman padded with zeros", _headers(HEAD + b"\x00\x83\x49\x50\x90\x01x"), CONNECTION),
    Case("H5.2 Huffman with an end of string", _headers(HEAD + b"\x00\x84\xff\xff\xff\xff\x01x"), CONNECTION),
    Case("H6.1 the index 0", _headers(HEAD + b"\x80"), CONNECTION),
    Case("H6.3 a table larger than is allowed", _headers(b"\x3f\xe1\xff\x3f" + HEAD), CONNECTION),
]

CASES = [*FRAMES, *STREAMS, *MESSAGES, *COMPRESSION]
