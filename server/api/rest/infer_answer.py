"""ModelInfer over HTTP: gRPC's answer as JSON, with tensors inside or as binary data behind it."""

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
    """Returns the body that says a serialized ModelInferResponse, and how much of it is JSON; None: all of it.

    Raises:
        InvalidRequest: an output has an element that JSON cannot say.
    """
    content, binary = _content(pb.ModelInferResponse.FromString(message), wanted)
    header = json_body.dump(content)
    return (b"".join((header, *binary)), len(header)) if binary else (header, None)


def _content(response: pb.ModelInferResponse, wanted: Wanted) -> tuple[dict[str, Any], list[bytes]]:
    """Returns the JSON of an answer, and the elements behind it."""
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
    """Answers with one binary output that differ in nothing but the id and the elements: their JSON, written once."""

    def __init__(self, before: bytes, after: bytes, content: dict[str, Any]) -> None:
        """Writes the JSON.

        Args:
            before: the fields of the serialized message before the id.
            after: what is between the id and the output's elements.
            content: what the JSON says but for the id.
        """
        self._before = before
        self._after = after
        names = {key: content.pop(key) for key in ("model_name", "model_version")}
        self._json_before = json_body.dump(names)[:-1]
        self._json_after = b"," + json_body.dump(content)[1:]

    @classmethod
    def of(cls, message: bytes, id_field: bytes, wanted: Wanted) -> "AnswerForm | None":
        """Returns the form of a serialized ModelInferResponse; None: it is of any other form.

        Args:
            message: the response.
            id_field: the request's id as a field of the message, tag included; empty: none.
            wanted: how the caller wants the outputs.
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
        """Returns the body that says a response, and how much of it is JSON; None: it is not of this form.

        Args:
            message: the serialized ModelInferResponse.
            id_field: the request's id as a field of the message; empty: none.
            json_id: the id as JSON writes it.
        """
        after_at = len(self._before) + len(id_field)
        # What precedes the elements says how many bytes they have.
        if not (message.startswith(self._after, after_at) and message.startswith(self._before)):
            return None
        data = memoryview(message)[after_at + len(self._after) :]
        if not id_field:
            json_bytes = len(self._json_before) + len(self._json_after)
            return b"".join((self._json_before, self._json_after, data)), json_bytes
        header = b"".join((self._json_before, b',"id":', json_id, self._json_after))
        return b"".join((header, data)), len(header)
