"""Compressed messages are counted before allocation, and large ones are unpacked off the loop."""

import asyncio
import gzip
import os
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.rest.body import BodyReader
from pixelserve_server.api.unpacking import FREE_BYTES, PIECE_BYTES, Holding, Left, TooLarge, unpack
from pixelserve_server.errors import InvalidRequest, QueueFull
from pixelserve_server.transport.h2corn.unary import unpacked

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
HEADERS = {b"grpc-encoding": b"gzip"}
PIECE = PIECE_BYTES


def sparse(size: int) -> bytes:
    """Returns bytes that compress to about a twentieth."""
    return os.urandom(size // 20) + bytes(size - size // 20)


@pytest.mark.parametrize("encoding", PACK)
def test_a_decompression_bomb_is_refused_early(encoding: str) -> None:
    packed = PACK[encoding](bytes(1 << 28))
    with pytest.raises(InvalidRequest, match=r"expands to more than 100 times its .* send it uncompressed"):
        unpack(packed, encoding, 1 << 30, pytest.fail)


def test_a_blank_tensor_may_compress_well() -> None:
    blank = bytes(FREE_BYTES)
    packed = gzip.compress(blank)
    assert len(blank) > 500 * len(packed)
    assert unpack(packed, "gzip", 1 << 30) == blank
    with pytest.raises(InvalidRequest, match="expands"):
        unpack(gzip.compress(blank + b"\0"), "gzip", 1 << 30)


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("fill", [bytes, os.urandom], ids=["zeros", "noise"])
def test_a_message_is_what_it_was_and_every_byte_is_counted(
    encoding: str, size: int, fill: Callable[[int], bytes]
) -> None:
    message, counted = fill(size), []
    assert unpack(PACK[encoding](message), encoding, size, counted.append) == message
    assert counted == [size]


@pytest.mark.parametrize("fill", [bytes, os.urandom], ids=["zeros", "noise"])
def test_a_message_that_is_cut_off_or_goes_on_behind_its_end_is_refused(fill: Callable[[int], bytes]) -> None:
    packed = gzip.compress(fill(2 * PIECE))
    for wrong in (packed[:-1], packed[: len(packed) // 2], b"", packed + b"x", packed + bytes(PIECE), packed + packed):
        with pytest.raises(InvalidRequest, match="cut off, or has more behind its end"):
            unpack(wrong, "gzip", 1 << 30)


def test_nothing_is_kept_that_is_too_large_or_not_counted() -> None:
    packed, counted = gzip.compress(sparse(100 * PIECE)), []
    with pytest.raises(TooLarge):
        unpack(packed, "gzip", 3 * PIECE, counted.append)
    assert counted == []
    admission = Admission(3 * PIECE)
    admission.hold(1)
    with pytest.raises(QueueFull):
        asyncio.run(unpacked(packed, HEADERS, 1 << 30, admission))
    # Nothing stays counted: all that may be in flight fits.
    admission.release(1)
    admission.hold_more(3 * PIECE, 0)


def test_a_small_message_that_becomes_large_is_not_unpacked_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    message = sparse(PIECE) + bytes(3 * PIECE)
    packed = gzip.compress(message)
    assert len(packed) < 64 * 1024
    threads = set()

    def hold_more(admission: Admission, size_bytes: int, own_bytes: int) -> None:
        threads.add(threading.get_ident())

    monkeypatch.setattr(Admission, "hold_more", hold_more)
    monkeypatch.setattr(Admission, "release", lambda *_: None)
    assert asyncio.run(unpacked(packed, HEADERS, 1 << 30, Admission(1 << 30))) == message
    assert threads
    assert threading.get_ident() not in threads


def test_nothing_is_counted_for_a_caller_who_has_left() -> None:
    admission = Admission(100)
    held = Holding(admission.hold_more, admission.release)
    held.hold(60)
    held.end()
    with pytest.raises(Left):
        held.hold(1)
    admission.hold_more(100, 0)


def test_a_compressed_body_over_http_counts_before_there_is_room_for_it() -> None:
    """Timeline: 1. another body holds a byte; 2. one that becomes too large for the rest is refused;
    3. nothing of it counts any more; 4. alone it is taken, whatever its size."""
    body = sparse(10 * PIECE)
    packed = gzip.compress(body)
    reader = BodyReader(len(body), 3 * PIECE, 30)

    async def read() -> bytes:
        async def receive() -> Any:
            return {"type": "http.request", "body": packed}

        with reader.room() as room:
            return await room.read({b"content-encoding": b"gzip"}, receive)

    reader.hold(1)
    with pytest.raises(QueueFull):
        asyncio.run(read())
    assert reader.held_bytes == 1
    reader.release(1)
    assert asyncio.run(read()) == body
    assert reader.held_bytes == 0
