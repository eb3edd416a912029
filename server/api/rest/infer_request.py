"""Converts a ModelInfer request in JSON, with tensors inside it or as binary data after it, to gRPC's message.

Formats: the Open Inference Protocol's REST side, and Triton's extensions for binary tensor data and classification.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ...engine.tensors import BY_NAME
from ...errors import InvalidRequest
from ..shared_memory import REGION
from ..wire import encode_varint
from . import json_body
from .status import too_large
from .tensors import pack

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the size of a body's JSON in bytes; the rest is binary data."""

SIZE = "binary_data_size"
"""A tensor's parameter with its number of bytes after the JSON."""

_BINARY, _BINARY_OUTPUT = "binary_data", "binary_data_output"
_MAX_INT64 = 2**63
# The tag of raw_input_contents (public protocol, ModelInferRequest): number << 3 | 2.
_RAW_TAG = bytes([7 << 3 | 2])


@dataclass(frozen=True)
class Wanted:
    """The requested form of the outputs."""

    by_default: bool
    """Whether outputs are sent as binary data by default."""
    by_name: Mapping[str, bool]
    """Whether named outputs are sent as binary data, if requested."""

    @property
    def any_binary(self) -> bool:
        """Whether any output may be sent as binary data."""
        return self.by_default or any(self.by_name.values())

    def is_binary(self, output: str) -> bool:
        """Returns whether an output is sent as binary data."""
        return self.by_name.get(output, self.by_default)


class Head:
    """A request's JSON as protobuf, without the id and the binary data after the JSON."""

    def __init__(self, head: pb.ModelInferRequest, contents: Sequence[bytes | int], wanted: Wanted) -> None:
        """Serializes the head.

        Args:
            head: the request without its id and raw contents.
            contents: for each input with contents, its elements, or the number of its bytes after the JSON.
            wanted: the requested form of the answer.
        """
        self.model = head.model_name
        self.wanted = wanted
        self.is_reusable = not any(isinstance(each, bytes) for each in contents)
        # The id's field goes between the two, in protobuf's order.
        start = pb.ModelInferRequest(model_name=head.model_name, model_version=head.model_version)
        self._start: bytes = start.SerializeToString()
        self._rest: bytes = head.SerializeToString()[len(self._start) :]
        # For each tensor, the bytes before its elements, and the size of its elements after the JSON.
        self._tensors = [_before_elements(each) for each in contents]
        self._binary_bytes = sum(size for _, size in self._tensors)

    def message(self, id_field: bytes, binary: memoryview) -> bytes:
        """Returns the serialized ModelInferRequest.

        Args:
            id_field: the id as a field of the message, tag included; empty: none.
            binary: the data after the JSON.

        Raises:
            InvalidRequest: its size differs from the sum of the inputs' sizes.
        """
        if len(binary) != self._binary_bytes:
            raise InvalidRequest(
                f"model {self.model}: {len(binary)} bytes follow the JSON; the inputs' {SIZE} adds up to "
                f"{self._binary_bytes}"
            )
        parts: list[bytes | memoryview] = [self._start, id_field, self._rest]
        position = 0
        for before, size in self._tensors:
            parts.append(before)
            parts.append(binary[position : position + size])
            position += size
        return b"".join(parts)


def _before_elements(content: bytes | int) -> tuple[bytes, int]:
    if isinstance(content, bytes):
        return _RAW_TAG + encode_varint(len(content)) + content, 0
    return _RAW_TAG + encode_varint(content), content


def to_head(model: str, version: str, text: bytes) -> tuple[Head, str]:
    """Parses a request's JSON; returns its head and id.

    Args:
        model: the model's name, from the path.
        version: the version, from the path; empty: the default one.
        text: the JSON.

    Raises:
        InvalidRequest: the JSON violates the protocol. The core checks it against the model.
    """
    content = json_body.parse_object(text, max_items=None)
    where = f"model {model}"
    parameters = dict(json_body.member(content, "parameters", dict, {}, where))
    wanted_by_default = _flag(parameters, _BINARY_OUTPUT, default=False, where=where)
    head = pb.ModelInferRequest(model_name=model, model_version=version)
    request_id = json_body.text(content, "id", where)
    _set_parameters(head.parameters, parameters, where)
    contents = _add_inputs(head, json_body.objects(content, "inputs", where))
    by_name = _add_outputs(head, json_body.objects(content, "outputs", where), wanted_by_default)
    return Head(head, contents, Wanted(wanted_by_default, by_name)), request_id


def json_size(header_length: bytes | None, body_bytes: int, max_json_bytes: int) -> int:
    """Returns the size of a body's JSON in bytes.

    Args:
        header_length: the header's value; None: the whole body.
        body_bytes: the body's size.
        max_json_bytes: maximum bytes of JSON.

    Raises:
        InvalidRequest: the header is not a number, or exceeds the body.
        HttpError: the JSON is too large.
    """
    size = body_bytes if header_length is None else _declared_size(header_length, body_bytes)
    if size > max_json_bytes:
        raise too_large("the JSON", max_json_bytes, "--max-json-mib", "; send tensors as binary data")
    return size


def _declared_size(header_length: bytes, body_bytes: int) -> int:
    if not (header_length.isdigit() and len(header_length) < 20):
        shown = header_length[:40].decode("latin-1")
        raise InvalidRequest(f'{HEADER_LENGTH} is "{shown}"; expected the size of the JSON in bytes')
    size = int(header_length)
    if size > body_bytes:
        raise InvalidRequest(f"{HEADER_LENGTH} is {size}, and the body has {body_bytes} bytes")
    return size


def _add_inputs(head: pb.ModelInferRequest, inputs: list[dict[str, Any]]) -> list[bytes | int]:
    """Adds the inputs; returns, for each with contents, its elements or the number of its bytes after the JSON."""
    contents: list[bytes | int] = []
    for each in inputs:
        name = json_body.text(each, "name", f"model {head.model_name}: an input")
        where = f"model {head.model_name}: input {name}"
        parameters = dict(json_body.member(each, "parameters", dict, {}, where))
        shape = _shape(each, where)
        tensor = head.inputs.add(name=name, datatype=json_body.text(each, "datatype", where), shape=shape)
        size = _binary_size(parameters, each, where)
        if size is not None:
            contents.append(size)
        elif REGION not in parameters or "data" in each:
            contents.append(_packed(tensor, each, shape, where))
        # Other inputs are in shared memory, which the core reads.
        _set_parameters(tensor.parameters, parameters, where)
    return contents


def _shape(tensor: dict[str, Any], where: str) -> list[int]:
    shape: list[Any] = json_body.member(tensor, "shape", list, [], where)
    if not all(type(size) is int and -_MAX_INT64 <= size < _MAX_INT64 for size in shape):
        raise InvalidRequest(f"{where}: shape has an element that is not a dimension; expected whole numbers")
    return shape


def _binary_size(parameters: dict[str, Any], tensor: dict[str, Any], where: str) -> int | None:
    """Removes the binary data's size from an input's parameters; None: its elements are in the JSON."""
    size = parameters.pop(SIZE, None)
    if size is None:
        return None
    if type(size) is not int or not 0 <= size < _MAX_INT64:
        raise InvalidRequest(f"{where}: {SIZE} is not a number of bytes; expected 0 or more")
    if "data" in tensor:
        raise InvalidRequest(f"{where} has both data and {SIZE}; send one")
    return size


def _packed(
    tensor: pb.ModelInferRequest.InferInputTensor, given: dict[str, Any], shape: list[int], where: str
) -> bytes:
    if "data" not in given:
        raise InvalidRequest(f"{where} has no data; send it in data, or after the JSON with {SIZE} in its parameters")
    datatype = BY_NAME.get(tensor.datatype)
    # The core refuses unknown datatypes and names the expected one.
    return b"" if datatype is None else pack(given["data"], shape, datatype, where)


def _add_outputs(head: pb.ModelInferRequest, outputs: list[dict[str, Any]], by_default: bool) -> dict[str, bool]:
    """Adds the requested outputs; returns for each whether it is requested as binary data."""
    wanted: dict[str, bool] = {}
    for each in outputs:
        name = json_body.text(each, "name", f"model {head.model_name}: an output")
        where = f"model {head.model_name}: output {name}"
        parameters = dict(json_body.member(each, "parameters", dict, {}, where))
        wanted[name] = _flag(parameters, _BINARY, default=by_default, where=where)
        _set_parameters(head.outputs.add(name=name).parameters, parameters, where)
    return wanted


def _flag(parameters: dict[str, Any], name: str, *, default: bool, where: str) -> bool:
    """Removes a boolean parameter from the others, which are passed to the core."""
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{where}: {name} must be true or false")
    return value


def _set_parameters(parameters: MutableMapping[str, pb.InferParameter], given: Mapping[str, Any], where: str) -> None:
    for name, value in given.items():
        # The map's object itself, so this sets the map's value.
        parameter = parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -_MAX_INT64 <= value < _MAX_INT64:
            parameter.int64_param = value
        elif isinstance(value, int) and 0 <= value < 2 * _MAX_INT64:
            parameter.uint64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        else:
            raise InvalidRequest(f"{where}: parameter {name} is not a string, a 64-bit number, true or false")
