"""Bounds the memory of parsing a message, from its bytes, before it is parsed.

A message of a few MiB may make protobuf allocate gigabytes: an empty tensor has 2 bytes on the wire and 90 in memory; a
number in typed contents has 1, and about 60 while it is converted to an array.
"""

import numpy as np

from pixelserve.oip import inference_pb2 as pb

from .wire import Fields, TooManyFields

MAX_ELEMENTS = 1 << 22
"""Maximum numbers in a request's typed contents. Raw contents have no such limit."""
MAX_STRINGS = 1 << 16
"""Maximum elements that are separate fields: strings, and unpacked numbers."""
MAX_RAW_STRINGS = 1 << 20
"""Maximum strings in a tensor of raw contents; each costs about half a microsecond."""
ELEMENT_BYTES = 60
"""Memory of an element of typed contents while it is converted to an array."""

# Too small to matter: at worst it expands 46 times.
_SMALL_BYTES = 64 * 1024
# More bytes than any tensor's shape needs.
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
    """Returns the number of elements in the typed contents of a serialized ModelInferRequest without raw contents.

    Returns 0 for small messages, which need no bound.

    Raises:
        ValueError: the bytes are not such a message.
        TooManyFields: it has more than any request needs.
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
        raise TooManyFields(f"it has {elements:,} elements of typed contents; at most {MAX_ELEMENTS:,} are accepted")
    return elements


def _count_in_input(fields: Fields, tensor: memoryview) -> int:
    elements = 0
    for tag, _, value_at, end in fields.walk(tensor):
        if tag == _SHAPE and end - value_at > _MAX_SHAPE_BYTES:
            raise TooManyFields(f"a shape has {end - value_at:,} bytes; at most {_MAX_SHAPE_BYTES:,} are accepted")
        if tag == _CONTENTS:
            contents = tensor[value_at:end]
            elements += sum(_count(tag, contents[value_at:end]) for tag, _, value_at, end in fields.walk(contents))
    return elements


def _count(tag: int, value: memoryview) -> int:
    """Returns the number of elements in a field of typed contents."""
    if tag & 7 != 2 or tag == _STRINGS:
        return 1
    if tag in _PACKED_BYTES:
        return len(value) // _PACKED_BYTES[tag]
    # Each number ends with the byte whose highest bit is clear.
    return int(np.count_nonzero(np.frombuffer(value, np.uint8) < 0x80))
