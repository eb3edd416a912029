"""ModelInfer over HTTP: JSON, with tensors inside or as binary data behind it, from and to the messages of gRPC.

Formats: the Open Inference Protocol's REST side, and Triton's extensions for binary tensor data and classification.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ...engine.tensors import BY_NAME
from ...errors import InvalidRequest
from ..shared_memory import REGION
from . import json_body
from .messages import as_json
from .status import too_large
from .tensors import pack, unpack

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON, the rest being binary data."""

_SIZE, _BINARY, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_MAX_INT64 = 2**63


@dataclass(frozen=True)
class Wanted:
    """How the caller wants its outputs."""

    by_default: bool
    """Whether an output of which nothing is said is sent as binary data."""
    by_name: Mapping[str, bool]
    """The same for those of which something is said."""

    def is_binary(self, output: str) -> bool:
        """Returns whether an output is sent as binary data."""
        return self.by_name.get(output, self.by_default)


def to_message(
    model: str, version: str, body: bytes, header_length: str | None, max_json_bytes: int
) -> tuple[bytes, Wanted]:
    """Returns the serialized ModelInferRequest that a body says, and how the answer is wanted.

    Args:
        model: the model's name, from the path.
        version: the version, from the path; empty: the one that the server chooses.
        body: JSON, and binary data behind it.
        header_length: the header's value; None: all of the body is JSON.
        max_json_bytes: most JSON that is read.

    Raises:
        InvalidRequest: the body is not what the protocol says. What only the model can tell, the core finds out.
        HttpError: there is too much JSON.
    """
    json_bytes = _json_size(header_length, len(body))
    if json_bytes > max_json_bytes:
        raise too_large("the JSON", max_json_bytes, "--max-json-mib", "; send tensors as binary data")
    content = json_body.parse_object(memoryview(body)[:json_bytes], max_items=None)
    where = f"model {model}"
    parameters = dict(json_body.member(content, "parameters", dict, {}, where))
    wanted_by_default = _flag(parameters, _BINARY_OUTPUT, default=False, where=where)
    head = pb.ModelInferRequest(model_name=model, model_version=version, id=json_body.text(content, "id", where))
    _set_parameters(head.parameters, parameters, where)
    _add_inputs(head, json_body.objects(content, "inputs", where), memoryview(body)[json_bytes:])
    by_name = _add_outputs(head, json_body.objects(content, "outputs", where), wanted_by_default)
    return head.SerializeToString(), Wanted(wanted_by_default, by_name)


def _json_size(header_length: str | None, body_bytes: int) -> int:
    if header_length is None:
        return body_bytes
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        raise InvalidRequest(f'{HEADER_LENGTH} is "{header_length[:40]}"; expected the number of bytes of the JSON')
    if int(header_length) > body_bytes:
        raise InvalidRequest(f"{HEADER_LENGTH} is {header_length}, and the body has {body_bytes} bytes")
    return int(header_length)


def _add_inputs(head: pb.ModelInferRequest, inputs: list[dict[str, Any]], binary: memoryview) -> None:
    """Adds the inputs, and their elements as raw contents: those in JSON too, so that both kinds may come together."""
    position = 0
    for each in inputs:
        name = json_body.text(each, "name", f"model {head.model_name}: an input")
        where = f"model {head.model_name}: input {name}"
        parameters = dict(json_body.member(each, "parameters", dict, {}, where))
        shape = _shape(each, where)
        tensor = head.inputs.add(name=name, datatype=json_body.text(each, "datatype", where), shape=shape)
        size = _binary_size(parameters, each, where)
        if REGION in parameters and size is None and "data" not in each:
            # Its elements are in shared memory, which the core reads.
            pass
        elif size is None:
            head.raw_input_contents.append(_packed(tensor, each, shape, where))
        else:
            head.raw_input_contents.append(bytes(binary[position : position + size]))
            position += size
        _set_parameters(tensor.parameters, parameters, where)
    if position != len(binary):
        raise InvalidRequest(
            f"model {head.model_name}: {len(binary)} bytes are behind the JSON; {_SIZE} of the inputs makes {position}"
        )


def _shape(tensor: dict[str, Any], where: str) -> list[int]:
    shape: list[Any] = json_body.member(tensor, "shape", list, [], where)
    if not all(type(size) is int and -_MAX_INT64 <= size < _MAX_INT64 for size in shape):
        raise InvalidRequest(f"{where}: shape has an element that is no dimension; expected whole numbers")
    return shape


def _binary_size(parameters: dict[str, Any], tensor: dict[str, Any], where: str) -> int | None:
    """Takes out of an input's parameters how many bytes of binary data it has; None: its elements are in the JSON."""
    size = parameters.pop(_SIZE, None)
    if size is None:
        return None
    if type(size) is not int or not 0 <= size < _MAX_INT64:
        raise InvalidRequest(f"{where}: {_SIZE} is no number of bytes; expected 0 or more")
    if "data" in tensor:
        raise InvalidRequest(f"{where} has data and {_SIZE} too; send one")
    return size


def _packed(
    tensor: pb.ModelInferRequest.InferInputTensor, given: dict[str, Any], shape: list[int], where: str
) -> bytes:
    if "data" not in given:
        raise InvalidRequest(f"{where} has no data; send it in data, or behind the JSON with {_SIZE} in its parameters")
    datatype = BY_NAME.get(tensor.datatype)
    # A datatype that does not exist is none that the model expects, and the core says which it does.
    return b"" if datatype is None else pack(given["data"], shape, datatype, where)


def _add_outputs(head: pb.ModelInferRequest, outputs: list[dict[str, Any]], by_default: bool) -> dict[str, bool]:
    """Adds the outputs that are asked for; returns of each whether it is wanted as binary data."""
    wanted: dict[str, bool] = {}
    for each in outputs:
        name = json_body.text(each, "name", f"model {head.model_name}: an output")
        where = f"model {head.model_name}: output {name}"
        parameters = dict(json_body.member(each, "parameters", dict, {}, where))
        wanted[name] = _flag(parameters, _BINARY, default=by_default, where=where)
        _set_parameters(head.outputs.add(name=name).parameters, parameters, where)
    return wanted


def _flag(parameters: dict[str, Any], name: str, *, default: bool, where: str) -> bool:
    """Takes a parameter that is true or false out of the others, which go on to the core."""
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{where}: {name} is neither true nor false, one of which is expected")
    return value


def _set_parameters(parameters: MutableMapping[str, pb.InferParameter], given: Mapping[str, Any], where: str) -> None:
    for name, value in given.items():
        # An object that a map hands out is the map's own.
        parameter = parameters[json_body.text({"a parameter's name": name}, "a parameter's name", where)]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -_MAX_INT64 <= value < _MAX_INT64:
            parameter.int64_param = value
        elif isinstance(value, int) and 0 <= value < 2 * _MAX_INT64:
            parameter.uint64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        elif isinstance(value, str):
            parameter.string_param = json_body.text({name: value}, name, where)
        else:
            raise InvalidRequest(f"{where}: parameter {name} is no string, 64-bit number, true or false")


def to_body(message: bytes, wanted: Wanted) -> tuple[bytes, int | None]:
    """Returns the body that says a serialized ModelInferResponse, and how much of it is JSON; None: all of it.

    Raises:
        InvalidRequest: an output has an element that JSON cannot say.
    """
    response = pb.ModelInferResponse.FromString(message)
    content: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        content["id"] = response.id
    if response.parameters:
        content["parameters"] = _parameters(response.parameters)
    content["outputs"], binary = [], []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        shown: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters = _parameters(tensor.parameters)
        if REGION in parameters:
            # Its elements are in shared memory, and none in the answer.
            pass
        elif wanted.is_binary(tensor.name):
            parameters[_SIZE] = len(raw)
            binary.append(raw)
        else:
            where = f"model {response.model_name}: output {tensor.name}"
            shown["data"] = unpack(raw, BY_NAME[tensor.datatype], where)
        content["outputs"].append(shown | ({"parameters": parameters} if parameters else {}))
    header = json_body.dump(content)
    return (b"".join((header, *binary)), len(header)) if binary else (header, None)


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    return {name: value for name, each in parameters.items() for value in as_json(each).values()}
