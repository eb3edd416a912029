"""The shapes of the JSON that the HTTP API takes and gives, for its description."""

from typing import Any

from pixelserve.scores import OUTPUT_KINDS

Document = dict[str, Any]

# A class has one of them.
_NUMBERS = {
    "probability": {"type": "number", "minimum": 0, "maximum": 1},
    "score": {"type": "number", "description": "if the model's output is not probabilities; higher is better"},
}


def reference(name: str) -> Document:
    """Returns a reference to one of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Document:
    """Returns the schemas by name."""
    text, whole = {"type": "string"}, {"type": "integer"}
    parameters = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    shape = {"type": "array", "items": whole}
    data = {"type": "array", "description": "the elements in row-major order, flat or nested as the shape says"}
    tensor = {"name": text, "datatype": text, "shape": shape, "parameters": parameters, "data": data}
    asked = {"name": text, "parameters": parameters}
    return {
        "Error": _object({"error": text}),
        "Tensor": _object(tensor, "name", "datatype", "shape"),
        "InferRequest": _object(
            {
                "id": text,
                "parameters": parameters,
                "inputs": _array(reference("Tensor")),
                "outputs": _array(_object(asked, "name")),
            },
            "inputs",
        ),
        "InferResponse": _object(
            {"model_name": text, "model_version": text, "id": text, "outputs": _array(reference("Tensor"))},
            *("model_name", "model_version", "outputs"),
        ),
        "Class": {
            **_object({"label": text, "index": whole, **_NUMBERS}),
            "oneOf": [{"required": [name]} for name in _NUMBERS],
        },
        "ClassifyResponse": _object(
            {
                "model": text,
                "version": text,
                "output_kind": {"type": "string", "enum": list(OUTPUT_KINDS)},
                "results": _array(_object({"file": text, "classes": _array(reference("Class")), "error": text})),
            },
            *("model", "version", "results"),
        ),
    }


def _object(properties: Document, *required: str) -> Document:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _array(items: Document) -> Document:
    return {"type": "array", "items": items}
