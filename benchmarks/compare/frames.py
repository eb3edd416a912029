"""HTTP/2 frames (RFC 9113): prepares requests by the thousand, and splits answers by frame headers."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import hpack
import numpy as np
import numpy.typing as npt

from .bodies import METHOD, Images, grpc_message, infer_request

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
HEAD_BYTES = 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ID_DIGITS = 16
_HEX = np.array([list(b"%02x" % value) for value in range(256)], np.uint8)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns one frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def opening() -> bytes:
    """Returns a client's connection preface.

    Maximum windows, so answers never wait for us; no header table, so equal header blocks are equal bytes.
    """
    settings = struct.pack(">HIHI", HEADER_TABLE_SIZE, 0, INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
    window = struct.pack(">I", LARGEST_WINDOW - DEFAULT_WINDOW)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window)


def header_block(authority: str, method: str = METHOD) -> bytes:
    """Returns a call's headers as literals outside the header table, valid for every call of the method."""
    fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": authority}
    fields |= {"te": "trailers", "content-type": "application/grpc"}
    # hpack adds all literals to its table except never-indexed ones.
    named = [hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields.items()]
    return hpack.Encoder().encode(named, huffman=False)


def identity(number: int) -> str:
    """Returns the id of request `number`: 16 hexadecimal digits."""
    return f"{number:0{ID_DIGITS}x}"


def stamp(images: Images, number: int) -> Images:
    """Returns a copy of image `number` modulo N with the number in its first four pixels, in the empty margin."""
    image: Images = images[number % len(images)][None].copy()
    image.reshape(-1)[:4] = list(struct.pack(">I", number))
    return image


class RequestFrames:
    """Creates the frames of requests with distinct streams, ids and pixels and equal length."""

    def __init__(self, images: Images, authority: str) -> None:
        """`images` [N, 28, 28, 1] are used in turn."""
        self._images = images.reshape(len(images), -1)
        pixels = np.arange(images[0].size, dtype=np.uint32).astype(np.uint8).reshape(1, *images.shape[1:])
        body = infer_request(pixels, "i" * ID_DIGITS).SerializeToString()
        block = header_block(authority)
        headers = frame(HEADERS, END_HEADERS, 0, block)
        template = headers + frame(DATA, END_STREAM, 0, grpc_message(body))
        self._template = np.frombuffer(template, np.uint8)
        self._streams_at = (HEAD_BYTES - 4, len(headers) + HEAD_BYTES - 4)
        self._id_at = template.index(b"i" * ID_DIGITS)
        self._pixels_at = template.index(pixels.tobytes())
        self.request_bytes = len(template)
        """The length of one request's frames."""
        self.message_bytes = len(grpc_message(body))
        """One request's share of the connection's window."""

    def make(self, first_stream: int, numbers: npt.NDArray[np.int64]) -> bytes:
        """Returns the frames of one request per number, on successive streams.

        Request k has the id and the stamped pixels of numbers[k]; equal numbers give equal bodies.
        """
        rows = np.tile(self._template, (len(numbers), 1))
        streams = _big_endian(first_stream + 2 * np.arange(len(numbers)), ">u4")
        for at in self._streams_at:
            rows[:, at : at + 4] = streams
        rows[:, self._id_at : self._id_at + ID_DIGITS] = _HEX[_big_endian(numbers, ">u8")].reshape(len(numbers), -1)
        pixels = rows[:, self._pixels_at : self._pixels_at + self._images.shape[1]]
        pixels[:] = self._images[numbers % len(self._images)]
        pixels[:, :4] = _big_endian(numbers, ">u4")
        return rows.tobytes()


def _big_endian(values: npt.NDArray[np.int64], dtype: str) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values.astype(dtype)).view(np.uint8).reshape(len(values), -1)


class Frame(NamedTuple):
    """A received frame."""

    kind: int
    """Its type."""
    flags: int
    """Its flags."""
    stream: int
    """The stream; 0 is the connection."""
    payload: bytes
    """What it carries."""


class FrameReader:
    """Splits a byte stream into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[Frame]:
        """Yields the complete frames, and keeps the rest."""
        buffer = self._rest + received
        at, end = 0, len(buffer)
        while end - at >= HEAD_BYTES:
            head, flags, stream = struct.unpack_from(">IBI", buffer, at)
            after = at + HEAD_BYTES + (head >> 8)
            if after > end:
                break
            yield Frame(head & 0xFF, flags, stream, buffer[at + HEAD_BYTES : after])
            at = after
        self._rest = buffer[at:]


def settings(payload: bytes) -> dict[int, int]:
    """Returns the values of a SETTINGS frame by identifier."""
    return dict(struct.iter_unpack(">HI", payload))
