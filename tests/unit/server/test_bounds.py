"""The size of a parsed message is computed from its bytes, and bounded before parsing."""

from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.v1 import classifier_pb2
from pixelserve_server.api.bounds import ELEMENT_BYTES, MAX_ELEMENTS, MAX_STRINGS, count_elements
from pixelserve_server.api.codec import SMALL_BYTES, parse, parse_message
from pixelserve_server.api.rest import json_body
from pixelserve_server.api.wire import MAX_FIELDS, Fields, TooManyFields, encode_varint, split_field
from pixelserve_server.errors import InvalidRequest, QueueFull

REQUEST, TENSOR, CONTENTS = pb.ModelInferRequest, pb.ModelInferRequest.InferInputTensor, pb.InferTensorContents
# More than a small head has, which is not looked into.
MANY = 70_000


def field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def typed(**contents: Any) -> bytes:
    """Returns a request with one tensor of typed contents."""
    return REQUEST(inputs=[TENSOR(name="x", contents=CONTENTS(**contents))]).SerializeToString()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bool_contents", [True] * MANY),
        ("int_contents", [-1, 0, 127, 128, 2**31 - 1] * MANY),
        ("int64_contents", [-(2**63), 300] * MANY),
        ("uint_contents", [2**32 - 1] * MANY),
        ("uint64_contents", [0] * MANY),
        ("fp32_contents", [0.5] * MANY),
        ("fp64_contents", [0.5] * MANY),
    ],
)
def test_numbers_are_counted_as_protobuf_would_build_them(name: str, values: list[Any]) -> None:
    assert count_elements(typed(**{name: values})) == len(values)


def test_strings_and_numbers_that_are_not_packed_are_counted_one_by_one() -> None:
    assert count_elements(typed(bytes_contents=[b"a long enough string"] * 10_000)) == 10_000
    number = encode_varint(CONTENTS.INT_CONTENTS_FIELD_NUMBER << 3) + b"\5"
    unpacked = field(REQUEST.INPUTS_FIELD_NUMBER, field(TENSOR.CONTENTS_FIELD_NUMBER, number * 40_000))
    assert list(parse(unpacked).head.inputs[0].contents.int_contents) == [5] * 40_000
    assert count_elements(unpacked) == 40_000


def of_input(number: int, value: bytes) -> bytes:
    return field(REQUEST.INPUTS_FIELD_NUMBER, field(number, value))


TOO_MUCH = {
    "raw contents": field(REQUEST.RAW_INPUT_CONTENTS_FIELD_NUMBER, b"") * (MAX_FIELDS + 1),
    "inputs": field(REQUEST.INPUTS_FIELD_NUMBER, b"") * (MAX_FIELDS + 1),
    "outputs": field(REQUEST.OUTPUTS_FIELD_NUMBER, b"") * (MAX_FIELDS + 1),
    "parameters": field(REQUEST.PARAMETERS_FIELD_NUMBER, b"") * (MAX_FIELDS + 1),
    "fields that are unknown": (encode_varint(100 << 3) + b"\0") * (MAX_FIELDS + 1),
    "strings": of_input(TENSOR.CONTENTS_FIELD_NUMBER, field(CONTENTS.BYTES_CONTENTS_FIELD_NUMBER, b"") * MAX_STRINGS),
    "parameters of an input": field(
        REQUEST.INPUTS_FIELD_NUMBER, field(TENSOR.PARAMETERS_FIELD_NUMBER, b"") * MAX_STRINGS
    ),
    "parameters of an output": field(REQUEST.OUTPUTS_FIELD_NUMBER, field(2, b"") * MAX_STRINGS),
    "dimensions": of_input(TENSOR.SHAPE_FIELD_NUMBER, bytes(MANY)),
    "dimensions that are not packed": field(
        REQUEST.INPUTS_FIELD_NUMBER, (encode_varint(TENSOR.SHAPE_FIELD_NUMBER << 3) + b"\0") * MAX_STRINGS
    ),
    "numbers": of_input(
        TENSOR.CONTENTS_FIELD_NUMBER, field(CONTENTS.INT_CONTENTS_FIELD_NUMBER, bytes(MAX_ELEMENTS + 1))
    ),
    "numbers in several inputs": of_input(
        TENSOR.CONTENTS_FIELD_NUMBER, field(CONTENTS.INT_CONTENTS_FIELD_NUMBER, bytes(MAX_ELEMENTS // 2 + 1))
    )
    * 2,
}


@pytest.mark.parametrize("message", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_message_of_which_protobuf_would_build_far_more_is_refused_unbuilt(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelserve_server.api.codec.pb", None)
    with pytest.raises(InvalidRequest, match=r"too large: .*raw_input_contents"):
        parse(message)


def test_a_message_that_is_parsed_as_it_is_cannot_have_too_many_fields() -> None:
    fields = field(REQUEST.OUTPUTS_FIELD_NUMBER, b"") * (SMALL_BYTES // 2)
    assert len(parse(fields).head.outputs) == MAX_FIELDS
    with pytest.raises(InvalidRequest, match="more than 4,096 fields"):
        parse(fields + b"\x08\x00")


def test_as_many_fields_as_are_taken_are_taken() -> None:
    message = field(REQUEST.RAW_INPUT_CONTENTS_FIELD_NUMBER, b"") * MAX_FIELDS
    assert len(split_field(message, REQUEST.RAW_INPUT_CONTENTS_FIELD_NUMBER)[1]) == MAX_FIELDS


def test_fields_are_counted_together_over_several_messages() -> None:
    fields, message = Fields(5), b"\0\0" * 3
    assert len(list(fields.walk(message))) == 3
    with pytest.raises(TooManyFields, match="more than 5 fields"):
        list(fields.walk(message))


def test_what_typed_contents_will_take_is_reserved_before_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[int] = []
    assert parse(typed(fp32_contents=[0.5] * MANY), reserved.append).head.inputs[0].name == "x"
    assert reserved == [MANY * ELEMENT_BYTES]

    def refuse(_: int) -> None:
        raise QueueFull("too many bytes")

    monkeypatch.setattr("pixelserve_server.api.codec.pb", None)
    with pytest.raises(QueueFull):
        parse(typed(fp32_contents=[0.5] * MANY), refuse)


def test_other_messages_are_bounded_too() -> None:
    image = field(classifier_pb2.ClassifyRequest.IMAGES_FIELD_NUMBER, b"")
    assert len(parse_message(classifier_pb2.ClassifyRequest, image * MAX_FIELDS).images) == MAX_FIELDS
    with pytest.raises(InvalidRequest, match=r"ClassifyRequest is too large: it has more than 4,096 fields"):
        parse_message(classifier_pb2.ClassifyRequest, image * (MAX_FIELDS + 1))
    more = parse_message(classifier_pb2.ClassifyRequest, image * (MAX_FIELDS + 1), max_fields=MAX_FIELDS + 1)
    assert len(more.images) == MAX_FIELDS + 1


@pytest.mark.parametrize("body", [b"[],", b"{},", b"[", b"0,"], ids=["lists", "objects", "nested lists", "numbers"])
def test_json_that_holds_no_tensors_is_refused_unread(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "_DECODER", None)
    with pytest.raises(InvalidRequest, match="items of JSON"):
        json_body.parse_object(b'{"parameters": [' + body * (json_body.MAX_ITEMS + 1))


def test_more_tensors_in_json_than_any_model_has_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"outputs has 4,097 objects"):
        json_body.objects({"outputs": [{}] * (MAX_FIELDS + 1)}, "outputs", "model m")
