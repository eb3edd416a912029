"""How much protobuf would build of a message, told from its bytes before anything is built.

A message of a few MiB may make protobuf build gigabytes: an empty tensor has two bytes on the wire and 90 in memory, a
number of typed contents one and, on its way to an array, about 60.
"""

import numpy as np

from pixelserve.oip import inference_pb2 as pb

from .wire import Fields, TooManyFields

MAX_ELEMENTS = 1 << 22
"""Numbers that a request may hold as typed contents. Raw contents have no such limit."""
MAX_STRINGS = 1 << 16
"""Elements of a request that are fields of their own: strings, and numbers that are not packed."""
MAX_RAW_STRINGS = 1 << 20
"""Strings that a tensor of raw contents may hold; each costs about half a microsecond."""
ELEMENT_BYTES = 60
"""What an element of typed contents takes while it becomes one of an array."""

# Too small to hold much, however it is filled: at worst 46 times as much.
_SMALL_BYTES = 64 * 1024
# A shape of more dimensions than any tensor has.
_MAX_SHAPE_BYTES = 1024

_INPUTS = pb.ModelInferRequest.INPUTS_FIELD_NUMBER << 3 | 2
_OUTPUTS = pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER << 3 | 2
_SHAPE = pb.ModelInferRequest.InferInputTensor.SHAPE_FIELD_NUMBER << 3 | 2
_CONTENTS = pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER << 3 | 2
_PACKED_BYTES = {
    pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER << 3 | 2: 4,
    pb.InferTensorContents.FP64_CONTENTS_FIELD_NUMBER << 3 | 2: 8,
}
_STRINGS = pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER << 3 | 2


def count_elements(head: bytes) -> int:
    """Returns how many elements a serialized ModelInferRequest without its raw contents has as typed contents.

    Of a small one, which need not be bounded, it returns 0.

    Raises:
        ValueError: the bytes are no such message.
        TooManyFields: it holds more than any request needs.
    """
    if len(head) <= _SMALL_BYTES:
        return 0
    fields, view = Fields(MAX_STRINGS), memoryview(head)
    elements = 0
    for tag, _, value_at, end in fields.walk(view):
        if tag == _INPUTS:
            elements += _count_in_input(fields, view[value_at:end])
        elif tag == _OUTPUTS:
            for _ in fields.walk(view[value_at:end]):
                pass
    if elements > MAX_ELEMENTS:
        raise TooManyFields(f"it has {elements:,} elements of typed contents, of {MAX_ELEMENTS:,} that are taken")
    return elements


def _count_in_input(fields: Fields, tensor: memoryview) -> int:
    elements = 0
    for tag, _, value_at, end in fields.walk(tensor):
        if tag == _SHAPE and end - value_at > _MAX_SHAPE_BYTES:
            raise TooManyFields(f"a shape has {end - value_at:,} bytes, of {_MAX_SHAPE_BYTES:,} that are taken")
        if tag == _CONTENTS:
            contents = tensor[value_at:end]
            elements += sum(_count(tag, contents[value_at:end]) for tag, _, value_at, end in fields.walk(contents))
    return elements


def _count(tag: int, value: memoryview) -> int:
    """Returns how many elements a field of typed contents has."""
    if tag & 7 != 2 or tag == _STRINGS:
        return 1
    if tag in _PACKED_BYTES:
        return len(value) // _PACKED_BYTES[tag]
    # Each number ends with the byte whose highest bit is not set.
    return int(np.count_nonzero(np.frombuffer(value, np.uint8) < 0x80))
