"""Converts tensors between JSON and the core's raw bytes."""

import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ...engine.tensors import DataType, format_shape
from ...errors import InvalidRequest
from ..codec import encode_bytes, split_bytes

# By NumPy's kind: accepted Python types of JSON values, and their name in messages.
_TAKEN: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "whole numbers"),
    "u": (frozenset({int}), "whole numbers"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "strings"),
}
_MAX_SHOWN = 40


def pack(data: object, shape: Sequence[int], datatype: DataType, where: str) -> bytes:
    """Returns a tensor's raw contents.

    Args:
        data: the JSON value: a flat list in row-major order, or lists nested according to the shape.
        shape: the tensor's shape in the request.
        datatype: its element type.
        where: names the tensor in messages.

    Raises:
        InvalidRequest: `data` has another shape or an element of another type.
    """
    _check_json(datatype, where, "send it")
    flat, nesting = _flattened(data, where)
    if len(nesting) > 1 and nesting != list(shape):
        raise InvalidRequest(
            f"{where} has data of shape {format_shape(tuple(nesting))}; its shape says {format_shape(tuple(shape))}"
        )
    expected = math.prod(shape)
    # The check against the model's signature explains negative dimensions better.
    if len(flat) != expected and min(shape, default=0) >= 0:
        raise InvalidRequest(f"{where} has {len(flat)} elements in data; its shape needs {expected}")
    _check_types(flat, datatype, where)
    if datatype.is_bytes:
        return encode_bytes([each.encode() for each in flat])
    return _numbers(flat, datatype, where)


def _check_json(datatype: DataType, where: str, remedy: str) -> None:
    if not (datatype.has_numbers or datatype.is_bytes):
        raise InvalidRequest(f"{where} is {datatype.name}, which JSON cannot represent; {remedy} as binary data")


def _flattened(data: object, where: str) -> tuple[list[Any], list[int]]:
    """Returns the elements of nested lists, and the shape."""
    if not isinstance(data, list):
        raise InvalidRequest(f"{where} has {_shown(data)} for data; expected a list")
    level, nesting = data, [len(data)]
    while level and isinstance(level[0], list):
        width = len(level[0])
        if not all(isinstance(each, list) and len(each) == width for each in level):
            raise InvalidRequest(f"{where} has ragged data: lists of one depth differ in length, or some are not lists")
        level = list(chain.from_iterable(level))
        nesting.append(width)
    return level, nesting


def _check_types(flat: list[Any], datatype: DataType, where: str) -> None:
    taken, name = _TAKEN[datatype.dtype.kind]
    if not set(map(type, flat)) <= taken:
        stray = next(each for each in flat if type(each) not in taken)
        raise InvalidRequest(f"{where} has {_shown(stray)} in data; expected {name} for {datatype.name}")


def _numbers(flat: list[Any], datatype: DataType, where: str) -> bytes:
    dtype = datatype.dtype
    if dtype.kind == "f":
        return _floats(flat, datatype, where)
    if dtype.kind in "iu" and flat:
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise _does_not_fit(datatype, where)
    return np.array(flat, dtype).tobytes()


def _floats(flat: list[Any], datatype: DataType, where: str) -> bytes:
    try:
        wide = np.array(flat, np.float64)
    except OverflowError as error:
        raise _does_not_fit(datatype, where) from error
    with np.errstate(over="ignore"):
        narrow = wide.astype(datatype.dtype)
    # JSON has no infinity, so an infinite value was a number that is too large.
    if not np.isfinite(narrow).all():
        raise _does_not_fit(datatype, where)
    return narrow.tobytes()


def _does_not_fit(datatype: DataType, where: str) -> InvalidRequest:
    return InvalidRequest(f"{where} has an element that does not fit {datatype.name}")


def unpack(raw: bytes, datatype: DataType, where: str) -> list[Any]:
    """Returns a tensor's elements in row-major order, as JSON-compatible values.

    Raises:
        InvalidRequest: an element is NaN or infinite, or JSON cannot represent the datatype.
    """
    _check_json(datatype, where, "request it")
    if datatype.is_bytes:
        return [element.decode(errors="replace") for element in split_bytes(memoryview(raw), where, len(raw))]
    array = np.frombuffer(raw, datatype.dtype)
    if datatype.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(f"{where} has NaN or infinity, which JSON cannot represent; request it as binary_data")
    values: list[Any] = array.tolist()
    return values


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
