"""Converts ModelInfer's answer to JSON, with tensors inside it or as binary data after it."""

from collections.abc import Mapping
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ...engine.tensors import BY_NAME
from ..shared_memory import REGION
from . import json_body
from .infer_request import SIZE, Wanted
from .messages import as_json
from .tensors import unpack


def to_body(message: bytes, wanted: Wanted) -> tuple[bytes, int | None]:
    """Returns the body of a serialized ModelInferResponse and the size of its JSON; None: all of it.

    Raises:
        InvalidRequest: an output has an element that JSON cannot represent.
    """
    content, binary = _content(pb.ModelInferResponse.FromString(message), wanted)
    header = json_body.dump(content)
    return (b"".join((header, *binary)), len(header)) if binary else (header, None)


def _content(response: pb.ModelInferResponse, wanted: Wanted) -> tuple[dict[str, Any], list[bytes]]:
    """Returns the JSON of an answer, and the binary data after it."""
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
            # Its elements are in shared memory, not in the answer.
            pass
        elif wanted.is_binary(tensor.name):
            parameters[SIZE] = len(raw)
            binary.append(raw)
        else:
            where = f"model {response.model_name}: output {tensor.name}"
            shown["data"] = unpack(raw, BY_NAME[tensor.datatype], where)
        content["outputs"].append(shown | ({"parameters": parameters} if parameters else {}))
    return content, binary


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    return {name: value for name, each in parameters.items() for value in as_json(each).values()}


class AnswerForm:
    """The JSON, serialized once, of answers with one binary output that differ only in id and elements."""

    def __init__(self, before: bytes, after: bytes, content: dict[str, Any]) -> None:
        """Serializes the JSON.

        Args:
            before: the fields of the serialized message before the id.
            after: what is between the id and the output's elements.
            content: the JSON without the id.
        """
        self._before = before
        self._after = after
        names = {key: content.pop(key) for key in ("model_name", "model_version")}
        self._json_before = json_body.dump(names)[:-1]
        self._json_after = b"," + json_body.dump(content)[1:]

    @classmethod
    def of(cls, message: bytes, id_field: bytes, wanted: Wanted) -> "AnswerForm | None":
        """Returns the form of a serialized ModelInferResponse, or None if it does not fit.

        Args:
            message: the response.
            id_field: the request's id as a field of the message, tag included; empty: none.
            wanted: the requested form of the outputs.
        """
        response = pb.ModelInferResponse.FromString(message)
        if len(response.raw_output_contents) != 1 or not wanted.is_binary(response.outputs[0].name):
            return None
        content, binary = _content(response, wanted)
        content.pop("id", None)
        start = pb.ModelInferResponse(model_name=response.model_name, model_version=response.model_version)
        before: bytes = start.SerializeToString()
        if not binary or not message.startswith(before + id_field) or not message.endswith(binary[0]):
            return None
        return cls(before, message[len(before) + len(id_field) : len(message) - len(binary[0])], content)

    def body(self, message: bytes, id_field: bytes, json_id: bytes) -> tuple[bytes, int] | None:
        """Returns a response's body and the size of its JSON; None: it is not of this form.

        Args:
            message: the serialized ModelInferResponse.
            id_field: the request's id as a field of the message; empty: none.
            json_id: the id as JSON.
        """
        after_at = len(self._before) + len(id_field)
        # The bytes before the elements include their size.
        if not (message.startswith(self._after, after_at) and message.startswith(self._before)):
            return None
        data = memoryview(message)[after_at + len(self._after) :]
        if not id_field:
            json_bytes = len(self._json_before) + len(self._json_after)
            return b"".join((self._json_before, self._json_after, data)), json_bytes
        header = b"".join((self._json_before, b',"id":', json_id, self._json_after))
        return b"".join((header, data)), len(header)
