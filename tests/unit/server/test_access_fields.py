"""The fields that authorisation depends on, compared with protobuf's parser."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.access.fields import MAX_FIELDS, values_of
from pixelserve_server.errors import InvalidRequest

NAME = 1


def varint(value: int, padding: int = 0) -> bytes:
    """Returns a varint with that many superfluous bytes."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    if padding:
        encoded[-1] |= 0x80
        encoded += bytes([0x80] * (padding - 1) + [0])
    return bytes(encoded)


def length_delimited(number: int, value: bytes, padding: int = 0) -> bytes:
    return varint(number << 3 | 2, padding) + varint(len(value), padding) + value


FIELD = st.one_of(
    st.builds(length_delimited, st.integers(1, 40), st.sampled_from([b"", b"a", b"bb", bytes(200)]), st.integers(0, 3)),
    st.builds(lambda number, value: varint(number << 3) + varint(value), st.integers(1, 40), st.integers(0, 2**64 - 1)),
    st.builds(lambda number: varint(number << 3 | 1) + bytes(8), st.integers(1, 40)),
    st.builds(lambda number: varint(number << 3 | 5) + bytes(4), st.integers(1, 40)),
    # A group, which is obsolete but still skipped by protobuf.
    st.builds(lambda number: varint(number << 3 | 3) + varint(number << 3 | 4), st.integers(1, 40)),
    st.binary(max_size=6),
)


@given(st.lists(FIELD, max_size=8).map(b"".join))
def test_the_name_that_protobuf_reads_is_never_missed(message: bytes) -> None:
    try:
        read = pb.ModelReadyRequest.FromString(message).name
    except DecodeError:
        return
    try:
        seen = values_of(message, NAME)
    except InvalidRequest:
        return
    assert (seen[-1] if seen else b"").decode() == read


@given(st.lists(st.tuples(st.integers(1, 20), st.binary(max_size=300)), max_size=8))
def test_every_value_is_found_in_order(fields: list[tuple[int, bytes]]) -> None:
    message = b"".join(length_delimited(number, value) for number, value in fields)
    assert values_of(message, 2) == [value for number, value in fields if number == 2]


def test_a_message_is_read_to_its_end_and_no_further() -> None:
    message = length_delimited(1, b"name") + length_delimited(7, bytes(70_000))
    assert values_of(message, NAME) == [b"name"]
    for length in (1, 2, 5, 7, 8, 9, len(message) - 1):
        with pytest.raises(InvalidRequest, match="cut off"):
            values_of(message[:length], NAME)


@pytest.mark.parametrize(
    "message",
    [b"\x0b\x0c", b"\x0e", b"\x0f", b"\xff" * 20, b"\x0a" + b"\xff" * 11, b"\x8a\x80\x80\x80\x10\x01a"],
    ids=["group", "wire type 6", "wire type 7", "long tag", "long length", "tag beyond 32 bits"],
)
def test_what_protobuf_itself_hardly_reads_is_refused(message: bytes) -> None:
    with pytest.raises(InvalidRequest):
        values_of(message, NAME)


def test_there_is_a_limit_to_fields() -> None:
    assert values_of(b"\x12\x00" * (MAX_FIELDS - 1), NAME) == []
    with pytest.raises(InvalidRequest, match="too many fields"):
        values_of(b"\x12\x00" * MAX_FIELDS, NAME)
