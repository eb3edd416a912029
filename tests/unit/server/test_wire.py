"""Splitting off a message's large field, compared with protobuf's parser."""

import pytest
from google.protobuf.message import DecodeError

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api import codec
from pixelserve_server.api.codec import SMALL_BYTES
from pixelserve_server.api.wire import split_field

RAW = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER


def part(**fields: object) -> bytes:
    """Returns a serialized piece of a request; pieces may be strung together."""
    return pb.ModelInferRequest(**fields).SerializeToString()


def raw(*values: bytes) -> bytes:
    return part(raw_input_contents=values)


TENSOR = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, -1, 2**40])
TENSOR.parameters["half"].double_param = 0.5
TENSOR.contents.bytes_contents.append(raw(b"a raw field that is inside another field stays there"))

# Field 100 is unknown, in every wire type that a message may hold; field 7 as a number is not the field wanted.
UNKNOWN_VARINT = b"\xa0\x06\x96\x01"
UNKNOWN_FIXED64 = b"\xa1\x06" + bytes(8)
UNKNOWN_FIXED32 = b"\xa5\x06" + bytes(4)
UNKNOWN_BYTES = b"\xa2\x06\x02ab"
RAW_AS_NUMBER = b"\x38\x05"

MESSAGES = {
    "nothing": b"",
    "no raw contents": part(model_name="m", inputs=[TENSOR]),
    "only raw contents": raw(b"abc"),
    "two of them": raw(b"abc", b"de"),
    "an empty one": raw(b"", b"abc", b""),
    "in the usual order": part(model_name="m", id="7", inputs=[TENSOR], raw_input_contents=[b"abc", b"d" * 300]),
    "raw contents first": raw(b"abc") + part(model_name="m", inputs=[TENSOR]),
    "interleaved": part(model_name="m") + raw(b"a") + part(inputs=[TENSOR]) + raw(b"b") + part(id="7") + raw(b"c"),
    "a field twice": part(id="6") + raw(b"a") + part(id="7"),
    "unknown fields": UNKNOWN_VARINT + raw(b"a") + UNKNOWN_FIXED64 + UNKNOWN_FIXED32 + raw(b"b") + UNKNOWN_BYTES,
    "the field's number with another wire type": RAW_AS_NUMBER + raw(b"a") + RAW_AS_NUMBER,
    "longer numbers than needed": b"\xba\x00\x83\x80\x00abc" + part(id="7"),
}


def parse(message: bytes) -> pb.ModelInferRequest | None:
    """Returns what protobuf makes of a message; None where it refuses."""
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        return None


def parse_split(message: bytes) -> pb.ModelInferRequest | None:
    """Returns the same, put together again from the split message."""
    try:
        rest, values = split_field(message, RAW)
    except ValueError:
        return None
    parsed = parse(rest)
    if parsed is not None:
        assert not parsed.raw_input_contents
        parsed.raw_input_contents.extend(bytes(value) for value in values)
    return parsed


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_split_message_is_what_protobuf_parses(message: bytes) -> None:
    assert parse(message) is not None
    assert parse_split(message) == parse(message)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_cut_off_anywhere_is_what_protobuf_makes_of_it(message: bytes) -> None:
    for length in range(len(message)):
        assert parse_split(message[:length]) == parse(message[:length]), message[:length]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_with_a_byte_changed_is_never_taken_for_another(message: bytes) -> None:
    for position in range(len(message)):
        for changed in (0x00, 0x01, 0x3A, 0x7F, 0x80, 0xFF, message[position] ^ 0x01, message[position] ^ 0x40):
            spoilt = message[:position] + bytes([changed]) + message[position + 1 :]
            # Refusing what protobuf accepts (groups, which are never sent) is allowed; the reverse is not.
            assert parse_split(spoilt) in (parse(spoilt), None), spoilt


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_large_message_is_parsed_like_a_small_one(message: bytes) -> None:
    large = message + part(id="x" * SMALL_BYTES)
    (head, tensors), (large_head, large_tensors) = codec.parse(message), codec.parse(large)
    large_head.id = head.id
    assert (large_head, large_tensors) == (head, tensors)


def test_the_values_are_views_of_the_message() -> None:
    message = part(model_name="m", raw_input_contents=[b"abc", b"de"])
    _, values = split_field(message, RAW)
    assert [value.obj is message for value in values] == [True, True]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x80" * 10 + b"\x00", id="a tag of eleven bytes"),
        pytest.param(b"\xa0\x06" + b"\xff" * 10 + b"\x01", id="a number of eleven bytes"),
        pytest.param(b"\x3a" + b"\xff" * 10 + b"\x01", id="a length of eleven bytes"),
        pytest.param(b"\x3a" + b"\xff" * 9 + b"\x01", id="a length of 2**64 - 1"),
        pytest.param(b"\x3b\x3c", id="a group"),
        pytest.param(b"\xa3\x06\xa4\x06", id="an unknown group"),
        pytest.param(b"\x3e", id="wire type 6"),
        pytest.param(b"\x3f", id="wire type 7"),
        pytest.param(b"\x3a\x04abc", id="a value longer than the message"),
        pytest.param(b"\xa1\x06" + bytes(7), id="a short fixed64"),
        pytest.param(b"\xa5\x06" + bytes(3), id="a short fixed32"),
        pytest.param(b"\x3a", id="no length"),
    ],
)
def test_an_invalid_message_raises_value_error(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|too long|wire type"):
        split_field(message, RAW)
