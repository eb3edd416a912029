"""Calls that break gRPC's rules: each is refused, and its connection stays usable."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from neighbours import request
from raw_http2 import INFER, Answer, call_headers, message

pytestmark = pytest.mark.slow

OK, INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 4, 8, 12, 13
RESET = "reset"
NOT_GRPC = "415"
NOT_POST = "405"
TOO_MANY_HEADERS = "431"
ANY = "any"
"""The order matters: grpcio rounds time-outs up, and answers some calls before it refuses their headers."""

REQUEST = request(7).SerializeToString()
GOOD = message(REQUEST)
ZIPPED = gzip.compress(REQUEST)
SERVED = ("grpc-encoding", "gzip")

Outcome = int | str


@dataclass(frozen=True)
class Call:
    """A call, and how it ends over each transport."""

    name: str
    h2corn: Outcome
    grpcio: Outcome
    data: bytes | None = GOOD
    headers: Sequence[tuple[str, str]] = tuple(call_headers())


def _with(*extra: tuple[str, str]) -> list[tuple[str, str]]:
    return call_headers(extra=extra)


def _changed(name: str, value: str | None) -> list[tuple[str, str]]:
    """Returns a good call's headers, one of them changed, or (None) left out."""
    changed = [(key, value if key == name else before) for key, before in call_headers()]
    return [(key, text) for key, text in changed if text is not None]


FRAMING = [
    Call("a good call", OK, OK),
    Call("a flag of 2", INVALID, 5, message(REQUEST, flag=2)),
    Call("a flag of 255", INVALID, 5, message(REQUEST, flag=255)),
    Call("no message", UNIMPLEMENTED, UNIMPLEMENTED, b""),
    Call("no message, and no DATA", UNIMPLEMENTED, UNIMPLEMENTED, None),
    Call("three bytes of a prefix", UNIMPLEMENTED, UNIMPLEMENTED, b"\0\0\0"),
    Call("a message that ends early", INVALID, UNIMPLEMENTED, message(REQUEST, declared=len(REQUEST) + 1)),
    Call("a message longer than declared", UNIMPLEMENTED, INVALID, message(REQUEST, declared=len(REQUEST) - 1)),
    Call("two messages", UNIMPLEMENTED, OK, GOOD + GOOD),
    Call("a byte behind the message", UNIMPLEMENTED, OK, GOOD + b"x"),
    Call("a message said to have 2 GiB", EXHAUSTED, EXHAUSTED, message(REQUEST, declared=1 << 31)),
    Call("a message said to have 4 GiB", EXHAUSTED, EXHAUSTED, message(REQUEST, declared=(1 << 32) - 1)),
    Call("no protobuf", INVALID, INVALID, message(b"\xff" * 100)),
]

COMPRESSED = [
    Call("gzip", OK, OK, message(ZIPPED, flag=1), _with(SERVED)),
    Call("deflate", OK, OK, message(zlib.compress(REQUEST), flag=1), _with(("grpc-encoding", "deflate"))),
    Call("gzip, and no word of it", INVALID, INTERNAL, message(ZIPPED, flag=1)),
    Call(
        "gzip by the name of deflate", INVALID, INTERNAL, message(ZIPPED, flag=1), _with(("grpc-encoding", "deflate"))
    ),
    Call("plain by the name of gzip", INVALID, INTERNAL, message(REQUEST, flag=1), _with(SERVED)),
    Call("plain, flagged", INVALID, INTERNAL, message(REQUEST, flag=1), _with(("grpc-encoding", "identity"))),
    Call("brotli", UNIMPLEMENTED, INTERNAL, message(REQUEST, flag=1), _with(("grpc-encoding", "br"))),
    Call("gzip without its end", INVALID, INTERNAL, message(ZIPPED[:-4], flag=1), _with(SERVED)),
    Call("gzip with more behind it", INVALID, INTERNAL, message(ZIPPED + b"more", flag=1), _with(SERVED)),
    Call("gzip twice", INVALID, INTERNAL, message(ZIPPED + ZIPPED, flag=1), _with(SERVED)),
    Call("bomb of gzip", EXHAUSTED, EXHAUSTED, message(gzip.compress(bytes(20 << 20)), flag=1), _with(SERVED)),
    Call(
        "bomb of deflate",
        EXHAUSTED,
        EXHAUSTED,
        message(zlib.compress(bytes(20 << 20)), flag=1),
        _with(("grpc-encoding", "deflate")),
    ),
]

HEADERS = [
    Call("another content type", NOT_GRPC, OK, headers=_changed("content-type", "application/json")),
    Call("gRPC-Web", NOT_GRPC, OK, headers=_changed("content-type", "application/grpc-web")),
    Call("no content type", NOT_GRPC, OK, headers=_changed("content-type", None)),
    Call("a content type in capitals", OK, OK, headers=_changed("content-type", "Application/GRPC+Proto")),
    Call("a content type with a parameter", OK, OK, headers=_changed("content-type", "application/grpc; a=b")),
    Call("another method", NOT_POST, RESET, headers=_changed(":method", "PUT")),
    Call("no te", INTERNAL, RESET, headers=_changed("te", None)),
    Call("another te", RESET, INTERNAL, headers=_changed("te", "gzip")),
    Call("no path", RESET, RESET, headers=_changed(":path", None)),
    Call("the path *", RESET, UNIMPLEMENTED, headers=_changed(":path", "*")),
    Call("the path /", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", "/")),
    Call("an unknown path", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", "/a.B/C")),
    Call("a path with a broken escape", RESET, UNIMPLEMENTED, headers=_changed(":path", INFER + "%zz")),
    Call("a path that escapes no text", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", "/%ff/%fe")),
    Call("a path with an escaped zero", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", INFER + "%00")),
    Call("a path that goes up", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", "/x/.." + INFER)),
    Call("a path of 8,000 letters", UNIMPLEMENTED, UNIMPLEMENTED, headers=_changed(":path", "/" + "a" * 8000)),
    Call("two paths", RESET, UNIMPLEMENTED, headers=_with((":path", "/x"))),
    Call("no scheme", RESET, RESET, headers=_changed(":scheme", None)),
    Call("a header in capitals", RESET, INTERNAL, headers=_with(("X-Up", "1"))),
    Call("a header of the connection", RESET, OK, headers=_with(("connection", "close"))),
    Call("a transfer-encoding", RESET, OK, headers=_with(("transfer-encoding", "chunked"))),
    Call("a line break in a header", RESET, OK, headers=_with(("x", "a\r\nb: c"))),
    Call("a content-length that lies", RESET, OK, headers=_with(("content-length", "3"))),
    Call("a status from the client", OK, OK, headers=_with(("grpc-status", "9"))),
    Call("150 headers", OK, OK, headers=_with(*[(f"x{number}", "") for number in range(150)])),
    Call(
        "more headers than are taken",
        TOO_MANY_HEADERS,
        ANY,
        headers=_with(*[("x", "v" * 500) for _ in range(60)]),
    ),
]

TIMEOUTS = [
    Call(f"a grpc-timeout of {value!r}", h2corn, grpcio, headers=_with(("grpc-timeout", value)))
    for value, h2corn, grpcio in [
        ("99999999H", OK, OK),
        ("10S", OK, OK),
        ("0S", DEADLINE, DEADLINE),
        ("1n", DEADLINE, ANY),
        ("123456789S", INVALID, OK),
        ("-1S", INVALID, INTERNAL),
        ("1.5S", INVALID, INTERNAL),
        ("1", INVALID, INTERNAL),
        ("S", INVALID, INTERNAL),
        ("", INVALID, INTERNAL),
        ("1x", INVALID, INTERNAL),
        ("٣S", INVALID, INTERNAL),
    ]
]


def outcome(answer: Answer) -> Outcome:
    """Returns how a call ended: by its gRPC status, else by HTTP's, else with a reset."""
    if answer.status is not None:
        return answer.status
    return answer.headers.get(":status") or (RESET if answer.reset else "nothing")


@pytest.mark.parametrize("call", [*FRAMING, *COMPRESSED, *HEADERS, *TIMEOUTS], ids=lambda call: call.name)
def test_a_bad_call_is_refused_for_itself(target: Any, call: Call) -> None:
    """Another on the same connection, which waits meanwhile, and one after it are answered."""
    with target.connect() as connection:
        waiting = connection.call(GOOD, ends=False)
        found = outcome(connection.answer(connection.call(call.data, headers=call.headers)))
        assert getattr(call, target.transport) in (found, ANY)
        connection.finish(waiting)
        assert connection.answer(waiting).status == OK
        assert connection.answer(connection.call(GOOD)).status == OK


def test_trailers_of_a_client_end_its_message(target: Any) -> None:
    with target.connect() as connection:
        stream = connection.call(GOOD, ends=False)
        connection.headers(stream, [("x-checksum", "1")], ends=True)
        assert connection.answer(stream).status == OK


def test_trailers_that_end_nothing_cost_the_call_only(target: Any) -> None:
    """HTTP/2 has trailers end the stream."""
    with target.connect() as connection:
        stream = connection.call(GOOD, ends=False)
        connection.headers(stream, [("x-checksum", "1")], ends=False)
        found = outcome(connection.answer(stream))
        # grpcio answers, or ends the connection, which HTTP/2 allows.
        if target.transport != "grpcio":
            assert found == RESET
            assert connection.answer(connection.call(GOOD)).status == OK
