"""The HTTP API's description, OpenAPI 3.1, with examples that can be sent as they are."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from .examples import Served
from .schemas import Document, reference, schemas

# Texts have <base>, <model>, <version> and <output> where `document` writes what is served.
_ERROR = {"error": 'there is no model "none"; this server has <model>'}
# What each operation may answer beside 200; one text for all, since the table is one.
_FAILURES = {
    "400": "The request is wrong: a name, a datatype, a shape, an element, or no JSON at all.",
    "403": "A web page of another site sent it.",
    "404": "There is no such model or version.",
    "413": "The body is larger than --max-message-mib, or its JSON larger than --max-json-mib.",
    "421": "Host is not a name of this server; --allowed-hosts adds names.",
    "429": "A queue is full; the header retry-pushback-ms says when to come back.",
    "503": "The version failed to load, or the server is stopping.",
    "504": "The request's timeout passed before it was computed.",
}
_INFER_RESPONSE = {
    "model_name": "<model>",
    "model_version": "<version>",
    "id": "42",
    "outputs": [{"name": "<output>", "datatype": "BYTES", "shape": [1, 2], "data": ["0.371204:1:1", "0.174403:7:7"]}],
}
_CLASSIFY_RESPONSE = {
    "model": "<model>",
    "version": "<version>",
    "output_kind": "probabilities",
    "results": [
        {"file": "7.png", "classes": [{"label": "7", "index": 7, "probability": 0.9999}]},
        {
            "file": "notes.txt",
            "error": "this is text, which cannot be read as a picture; send the bytes of an image file: PNG, JPEG, …",
        },
    ],
}


def document(version: str, served: Served | None = None) -> Document:
    """Returns the description, as `json.dumps` takes it.

    Args:
        version: the server's.
        served: what the examples name; None: the usual port and a committed model.
    """
    served = served or Served()
    text = json.dumps(_document(version, served))
    for name in ("base", "model", "version", "output"):
        text = text.replace(f"<{name}>", json.dumps(getattr(served, name))[1:-1])
    filled: Document = json.loads(text)
    return filled


def _document(version: str, served: Served) -> Document:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PixelServe",
            "version": version,
            "description": "Pictures in, labels out; and the Open Inference Protocol (v2) with Triton's extensions for "
            "binary tensor data, classification and statistics. An error is a JSON object with one member, error.",
        },
        "servers": [{"url": "/"}],
        "paths": {**_server(), **_models(), **_inference(served), **_pictures()},
        "components": {"schemas": schemas()},
    }


def _server() -> Document:
    return {
        "/v2": _get("Server metadata", "What this server is, and the extensions that it serves.", "curl -s {base}/v2"),
        "/v2/health/live": _get("Is it live?", "200 where it is; 4xx otherwise.", "curl -f {base}/v2/health/live"),
        "/v2/health/ready": _get(
            "Is it ready?",
            "200 where every model is loaded and the server is not stopping; 4xx or 503 otherwise.",
            "curl -f {base}/v2/health/ready",
        ),
        "/v2/models/stats": _get(
            "Statistics of all models", "Cumulative counts and nanoseconds.", "curl -s {base}/v2/models/stats"
        ),
        "/v1/models": _get(
            "Every version", "State, tensors, pictures, evidence and card of each version.", "curl -s {base}/v1/models"
        ),
        **_by_version(
            "/v1/models/{model}",
            lambda path: {
                f"{path}/samples": _get(
                    "Sample pictures",
                    "Up to ten golden samples: height, width, channels and, in base64, data.",
                    "curl -s {base}{path}/samples",
                    path,
                )
            },
        ),
        "/v1/figures": _get(
            "What versions have done",
            "Counts and histograms per version, which only grow; two answers give the rates between them.",
            "curl -s {base}/v1/figures",
        ),
        "/v2/repository/index": {
            "post": _operation(
                "What is in the repository",
                'Every model and version with its state. {"ready": true} leaves out what is not ready.',
                "curl -s -X POST {base}/v2/repository/index",
                body={"application/json": {"schema": {"type": "object"}, "example": {"ready": True}}},
                required=False,
            )
        },
        **_control(),
        **_shared_memory(),
    }


def _control() -> Document:
    operations = {
        "load": ("Load a model", "200 when it takes requests, or has been brought up to what its folder holds."),
        "unload": ("Unload a model", "200 when it has answered what it had accepted."),
    }
    body = {"application/json": {"schema": {"type": "object"}, "example": {}}}
    return {
        f"/v2/repository/models/{{model}}/{name}": {
            "post": _operation(
                summary,
                f"{text} The server must run with --model-control-mode explicit; otherwise 503.",
                f"curl -s -X POST {{base}}/v2/repository/models/<model>/{name}",
                "{model}",
                body=body,
                required=False,
                failures=("400", "404", "503"),
            )
        }
        for name, (summary, text) in operations.items()
    }


def _shared_memory() -> Document:
    base, region = "/v2/systemsharedmemory", "/v2/systemsharedmemory/region/{region}"
    needs = "The server must run with --system-shared-memory; otherwise 501."
    example = {"key": "/pictures", "offset": 0, "byte_size": 784}
    body = {"application/json": {"schema": {"type": "object"}, "example": example}}
    status, forget = (
        f"Name, key, offset and size in bytes. {needs}",
        f"Requests that use it already are finished. {needs}",
    )
    failures = ("400", "404")

    def post(summary: str, text: str, path: str, **more: Any) -> Document:
        shell = f"curl -s -X POST {{base}}{path.replace('{region}', 'pictures')}"
        return {"post": _operation(summary, text, shell, path, failures=failures, **more)}

    return {
        f"{base}/status": _get("Registered regions", status, f"curl -s {{base}}{base}/status"),
        f"{region}/status": _get("One region", status, f"curl -s {{base}}{base}/region/pictures/status", region),
        f"{region}/register": post(
            "Register a region of shared memory",
            f"200 when requests may name it. {needs}",
            f"{region}/register",
            body=body,
        ),
        f"{region}/unregister": post("Forget a region", forget, f"{region}/unregister"),
        f"{base}/unregister": post("Forget all regions", forget, f"{base}/unregister"),
    }


def _models() -> Document:
    operations = {
        "": ("Model metadata", "Its inputs and outputs, versions, and the evidence for it."),
        "/ready": ("Is the model ready?", "200 where it is; 4xx otherwise, also where there is no such model."),
        "/config": ("Model configuration", "What config.pbtxt says, and what was derived where it does not say."),
        "/stats": ("Model statistics", "Cumulative counts and nanoseconds, by version."),
    }
    return _by_version(
        "/v2/models/{model}",
        lambda path: {
            path + end: _get(summary, text, f"curl -s {{base}}{{path}}{end}", path)
            for end, (summary, text) in operations.items()
        },
    )


def _inference(served: Served) -> Document:
    text = (
        "Tensors in, tensors out. Elements are in data, flat or nested; or behind the JSON as binary data, in the "
        "order of the inputs, each as long as binary_data_size in its parameters says, and the header "
        "Inference-Header-Content-Length says how long the JSON is. binary_data in an output's parameters, or "
        "binary_data_output in the request's, asks for the answer in the same form. classification in an output's "
        "parameters asks for that many best classes. The parameter timeout is in microseconds. Bodies may be "
        "compressed (Content-Encoding: gzip or deflate), and answers are where Accept-Encoding asks for it."
    )
    shell = (
        "curl -s {base}{path}/infer -H 'Content-Type: application/json' -d @request.json\n"
        "# with pixels as binary data:\n"
        "curl -s {base}{path}/infer -H 'Inference-Header-Content-Length: 97' --data-binary @request.bin"
    )
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "How many bytes of the body are JSON; absent: all.",
        "schema": {"type": "integer", "minimum": 0},
    }
    wanted = {"name": "<output>", "parameters": {"classification": 2}}
    request = {"id": "42", "inputs": served.inputs, "outputs": [wanted]}
    body = {
        "application/json": {"schema": reference("InferRequest"), "example": request},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }

    def operations(path: str) -> Document:
        operation = _operation("Infer", text, shell, path, body=body, example=_INFER_RESPONSE, schema="InferResponse")
        operation["parameters"].append(header)
        return {f"{path}/infer": {"post": operation}}

    return _by_version("/v2/models/{model}", operations)


def _pictures() -> Document:
    text = (
        "Pictures in (PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF), labels out. A form has parts named image, as many as "
        "--max-images and the model's batch allow; or the body is one picture and Content-Type its own. A picture that "
        "cannot be read has an error of its own and costs the others nothing. A class has a probability, or a score "
        "if the model's output is not probabilities; output_kind says what it is."
    )
    shell = (
        "curl -F image=@picture.png {base}{path}:classify\n"
        "curl -H 'Content-Type: image/png' --data-binary @picture.png '{base}{path}:classify?top_k=3'"
    )
    form = {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}, **_options()}
    body = {
        "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": form}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }

    def operations(path: str) -> Document:
        operation = _operation(
            "Classify pictures", text, shell, path, body=body, example=_CLASSIFY_RESPONSE, schema="ClassifyResponse"
        )
        operation["parameters"] += [
            {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
            for name, schema in _options().items()
        ]
        return {f"{path}:classify": {"post": operation}}

    return _by_version("/v1/models/{model}", operations)


def _options() -> Document:
    return {
        "top_k": {"type": "integer", "minimum": 1, "default": 1, "description": "how many of the best classes"},
        "inversion": {
            "type": "string",
            "enum": ["never", "always", "auto"],
            "description": "whether pictures are inverted first; absent: as the model's config.pbtxt says",
        },
        "occlusion": {
            "type": "integer",
            "minimum": 0,
            "maximum": 8,
            "default": 0,
            "description": "of one picture, how much covering each of so many cells per side lowers the best class",
        },
        "return_seen": {
            "type": "boolean",
            "default": False,
            "description": "whether to return each picture as the model saw it, in base64",
        },
    }


def _by_version(path: str, operations: Callable[[str], Document]) -> Document:
    """Returns operations on the version that the server chooses, and on one that the path names."""
    return {**operations(path), **operations(f"{path}/versions/{{version}}")}


def _get(summary: str, description: str, shell: str, path: str = "") -> Document:
    failures = ("400", "404", "503") if path else ("503",)
    return {"get": _operation(summary, description, shell, path, failures=failures)}


def _operation(
    summary: str,
    description: str,
    shell: str,
    path: str = "",
    *,
    body: Document | None = None,
    required: bool = True,
    example: Any = None,
    schema: str = "",
    failures: Sequence[str] = tuple(_FAILURES),
) -> Document:
    concrete = path.replace("{model}", "<model>").replace("{version}", "<version>")
    source = shell.replace("{base}", "<base>").replace("{path}", concrete)
    content: Document = {"schema": reference(schema) if schema else {}}
    if example is not None:
        content["example"] = example
    operation: Document = {
        "summary": summary,
        "description": description,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("model", "version", "region")
            if f"{{{name}}}" in path
        ],
        "responses": {
            "200": {"description": "It is so.", "content": {"application/json": content}},
            **_failures(failures),
        },
        # Known to the usual viewers: an extension of the format for examples on a command line.
        "x-codeSamples": [{"lang": "Shell", "source": source}],
    }
    if body is not None:
        operation["requestBody"] = {"required": required, "content": body}
    return operation


def _failures(of: Sequence[str]) -> Document:
    content = {"application/json": {"schema": reference("Error"), "example": _ERROR}}
    return {status: {"description": _FAILURES[status], "content": content} for status in of}
