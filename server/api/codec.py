"""Converts between ModelInfer's messages and tensors, and checks that requests are well-formed.

Tensor bytes are not copied, except in small messages: arrays are views of the received message.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from pixelserve.oip import inference_pb2 as pb

from ..engine.tensors import FREE, Array, TensorSpec, format_shape
from ..errors import InvalidRequest
from ..repository.config import ModelConfig
from .bounds import ELEMENT_BYTES, MAX_RAW_STRINGS, count_elements
from .wire import MAX_FIELDS, Fields, TooManyFields, split_field

SMALL_BYTES = 2 * MAX_FIELDS
"""Size up to which a message cannot have more than MAX_FIELDS fields, each of which has two bytes at least. Protobuf
parses such a one as it is, and copies its tensors: that takes 1 µs, where a look at four fields takes 2."""

_RAW_INPUT_CONTENTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER

# The field of typed contents for each datatype (InferTensorContents); FP16 and BF16 have none.
_CONTENTS_FIELD = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


M = TypeVar("M", bound=Message)


class InferRequest(NamedTuple):
    """A split ModelInfer request, not yet checked against a model."""

    head: pb.ModelInferRequest
    """Everything but the raw tensor bytes."""
    raw: Sequence[memoryview]
    """The raw tensor bytes, one view per input that has any: into the message, unless that is small (`parse`)."""


def parse(message: bytes, reserve: Callable[[int], object] = lambda _: None) -> InferRequest:
    """Parses a serialized ModelInferRequest; does not copy tensors of messages larger than SMALL_BYTES.

    Args:
        message: the bytes.
        reserve: called with the number of additional bytes before they are allocated; may raise.

    Raises:
        InvalidRequest: the bytes are not such a message, or would expand too much.
    """
    try:
        if len(message) <= SMALL_BYTES:
            request = pb.ModelInferRequest.FromString(message)
            raw = [memoryview(each) for each in request.raw_input_contents]
            request.ClearField("raw_input_contents")
            return InferRequest(request, raw)
        head, raw = split_field(message, _RAW_INPUT_CONTENTS)
        elements = count_elements(head)
        if elements:
            reserve(elements * ELEMENT_BYTES)
        return InferRequest(pb.ModelInferRequest.FromString(head), raw)
    except TooManyFields as error:
        raise InvalidRequest(f"the request is too large: {error}; send tensors in raw_input_contents") from error
    except (DecodeError, ValueError) as error:
        raise InvalidRequest(f"the request is not a ModelInferRequest: {error}") from error


def parse_message(message_type: type[M], message: bytes, *, max_fields: int = MAX_FIELDS) -> M:
    """Parses a serialized message.

    Args:
        message_type: its type.
        message: the bytes.
        max_fields: maximum number of fields.

    Raises:
        InvalidRequest: the bytes are not such a message, or have more fields.
    """
    try:
        # Each field has at least two bytes.
        if len(message) > 2 * max_fields:
            for _ in Fields(max_fields).walk(message):
                pass
        return message_type.FromString(message)
    except TooManyFields as error:
        raise InvalidRequest(f"the {message_type.DESCRIPTOR.name} is too large: {error}; send several") from error
    except (DecodeError, ValueError) as error:
        raise InvalidRequest(f"the request is not a {message_type.DESCRIPTOR.name}: {error}") from error


def decode_inputs(request: InferRequest, config: ModelConfig) -> tuple[dict[str, Array], int]:
    """Checks a request's inputs against the model and returns them.

    Returns:
        The input tensors by name, in the model's order, and their rows (1 for a model without a batch dimension).

    Raises:
        InvalidRequest: an input is missing, unknown, duplicate, or of a wrong datatype, shape or size.
    """
    tensors = list(request.head.inputs)
    contents = _contents(request, tensors, config.name)
    by_name = {tensor.name: index for index, tensor in enumerate(tensors)}
    _check_names(by_name, len(tensors), config)
    arrays: dict[str, Array] = {}
    for spec in config.inputs:
        index = by_name[spec.name]
        shape = _checked_shape(tensors[index], spec, config)
        arrays[spec.name] = _array(contents[index], spec, shape, config.name)
    return arrays, _rows(arrays, config)


def _contents(
    request: InferRequest, tensors: Sequence[pb.ModelInferRequest.InferInputTensor], model: str
) -> Sequence[memoryview | pb.InferTensorContents]:
    """Returns each input's contents: all raw, or all typed."""
    typed = [tensor.name for tensor in tensors if tensor.HasField("contents")]
    if not request.raw:
        if len(typed) < len(tensors):
            missing = next(tensor.name for tensor in tensors if not tensor.HasField("contents"))
            raise InvalidRequest(
                f"model {model}: input {missing} has no data; send it in raw_input_contents or in its contents"
            )
        return [tensor.contents for tensor in tensors]
    if typed:
        raise InvalidRequest(
            f"model {model}: input {typed[0]} has typed contents and the request has raw_input_contents too; send one"
        )
    if len(request.raw) != len(tensors):
        raise InvalidRequest(
            f"model {model}: {len(tensors)} inputs and {len(request.raw)} buffers in raw_input_contents; "
            f"expected one buffer an input, in the same order"
        )
    return request.raw


def _check_names(by_name: Mapping[str, int], sent: int, config: ModelConfig) -> None:
    known = [spec.name for spec in config.inputs]
    unknown = [name for name in by_name if name not in known]
    if unknown:
        raise InvalidRequest(f'model {config.name} has no input "{unknown[0]}"; it has {", ".join(known)}')
    if len(by_name) != sent:
        raise InvalidRequest(f"model {config.name}: an input occurs twice; send each of {', '.join(known)} once")
    missing = [name for name in known if name not in by_name]
    if missing:
        raise InvalidRequest(f"model {config.name}: input {missing[0]} is missing; expected {', '.join(known)}")


def _checked_shape(
    tensor: pb.ModelInferRequest.InferInputTensor, spec: TensorSpec, config: ModelConfig
) -> tuple[int, ...]:
    where = f"model {config.name}: input {spec.name}"
    if tensor.datatype != spec.datatype.name:
        raise InvalidRequest(f'{where} has datatype "{tensor.datatype}"; expected {spec.datatype.name}')
    shape = tuple(tensor.shape)
    fits = len(shape) == len(spec.shape) and all(
        sent >= 0 if wanted == FREE else sent == wanted for sent, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(f"{where} has shape {format_shape(shape)}; expected {format_shape(spec.shape)}")
    limit = config.batching.max_batch_size
    if limit and not 1 <= shape[0] <= limit:
        raise InvalidRequest(f"{where} has {shape[0]} rows; expected 1 to {limit} (max_batch_size)")
    return shape


def _rows(arrays: Mapping[str, Array], config: ModelConfig) -> int:
    if not config.batching.max_batch_size:
        return 1
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise InvalidRequest(f"model {config.name}: inputs disagree on the rows: {rows}; expected one number for all")
    return next(iter(rows.values()))


def _array(
    contents: memoryview | pb.InferTensorContents, spec: TensorSpec, shape: tuple[int, ...], model: str
) -> Array:
    where = f"model {model}: input {spec.name}"
    elements = math.prod(shape)
    if isinstance(contents, memoryview):
        flat = _from_raw(contents, spec, elements, where)
    else:
        flat = _from_typed(contents, spec, elements, where)
    try:
        return flat.reshape(shape)
    except ValueError as error:
        # With a dimension of 0 there are no elements, but NumPy still multiplies the others.
        raise InvalidRequest(f"{where} has shape {format_shape(shape)}, which is too large for an array") from error


def _from_raw(raw: memoryview, spec: TensorSpec, elements: int, where: str) -> Array:
    if spec.datatype.is_bytes:
        if elements > MAX_RAW_STRINGS:
            raise InvalidRequest(f"{where} has {elements:,} BYTES elements; at most {MAX_RAW_STRINGS:,} are accepted")
        return _strings(split_bytes(raw, where, elements), elements, where)
    expected = elements * spec.datatype.dtype.itemsize
    if raw.nbytes != expected:
        raise InvalidRequest(f"{where} has {raw.nbytes} raw bytes; its shape and datatype make {expected}")
    array: Array = np.frombuffer(raw, spec.datatype.dtype)
    # A float tensor may start at any byte of the message; kernels require alignment.
    return array if array.flags.aligned else array.copy()


def _from_typed(contents: pb.InferTensorContents, spec: TensorSpec, elements: int, where: str) -> Array:
    expected = _CONTENTS_FIELD.get(spec.datatype.name)
    if expected is None:
        raise InvalidRequest(f"{where}: {spec.datatype.name} has no typed contents; send it in raw_input_contents")
    wrong = [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != expected]
    if wrong:
        raise InvalidRequest(f"{where}: {spec.datatype.name} came in {wrong[0]}; expected {expected}")
    values = getattr(contents, expected)
    if len(values) != elements:
        raise InvalidRequest(f"{where} has {len(values)} elements in {expected}; its shape needs {elements}")
    if spec.datatype.is_bytes:
        return _strings(values, elements, where)
    return _narrowed(np.array(values, dtype=_wide(spec.datatype.dtype)), spec, where)


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the wire type of a small integer."""
    return np.dtype("i8") if dtype.kind == "i" else np.dtype("u8") if dtype.kind == "u" else dtype


def _narrowed(values: Array, spec: TensorSpec, where: str) -> Array:
    narrow = values.astype(spec.datatype.dtype)
    if values.dtype.kind in "iu" and not np.array_equal(narrow, values):
        raise InvalidRequest(f"{where} has an element that does not fit {spec.datatype.name}")
    return narrow


def split_bytes(raw: memoryview, where: str, at_most: int) -> list[bytes]:
    """Splits a BYTES tensor: each element is its length, a little-endian uint32, and that many bytes.

    Raises:
        InvalidRequest: an element is longer than the rest, or there are more than `at_most`; `where` names the
            tensor.
    """
    elements: list[bytes] = []
    position = 0
    while position < raw.nbytes:
        end = position + 4
        if end <= raw.nbytes:
            end += struct.unpack_from("<I", raw, position)[0]
        if end > raw.nbytes or end < position + 4:
            raise InvalidRequest(f"{where}: element {len(elements)} of the BYTES tensor is longer than the buffer")
        if len(elements) == at_most:
            raise InvalidRequest(f"{where} has more than {at_most} BYTES elements; its shape needs {at_most}")
        elements.append(bytes(raw[position + 4 : end]))
        position = end
    return elements


def _strings(values: Sequence[bytes], elements: int, where: str) -> Array:
    if len(values) != elements:
        raise InvalidRequest(f"{where} has {len(values)} BYTES elements; its shape needs {elements}")
    try:
        # ONNX strings are UTF-8, and ONNX Runtime takes str.
        return np.array([bytes(value).decode() for value in values], dtype=object)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where} has an element that is not UTF-8, which ONNX strings are: {error}") from error


def encode_bytes(elements: Sequence[bytes]) -> bytes:
    """Returns a BYTES tensor's raw contents: each element's length as a little-endian uint32, then its bytes."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def encode_output(response: pb.ModelInferResponse, spec: TensorSpec, array: Array) -> None:
    """Adds an output tensor and its raw bytes to a response."""
    describe_output(response, spec, array.shape)
    if spec.datatype.is_bytes:
        elements = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel())
        response.raw_output_contents.append(encode_bytes(list(elements)))
    else:
        response.raw_output_contents.append(array.tobytes())


def describe_output(response: pb.ModelInferResponse, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """Adds an output tensor's name, datatype and shape to a response, without its elements."""
    response.outputs.add(name=spec.name, datatype=spec.datatype.name, shape=shape)
