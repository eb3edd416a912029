"""Values for the examples in /docs and /openapi.json: this server's address and one of its models."""

import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from pixelserve.v1 import classifier_pb2 as pb

from ...access.authorizer import HEADER
from .. import classifier
from .http_call import HttpInvoker
from .status import HttpError

# Longer tensors would obscure the example.
_MOST_ELEMENTS = 1000


def _image() -> list[dict[str, Any]]:
    return [{"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": [0] * 784}]


@dataclass(frozen=True)
class Served:
    """Names and addresses for examples."""

    base: str = "http://127.0.0.1:8000"
    """The server's URL, without a slash at the end."""
    model: str = "mnist-cnn"
    """A model's name, URL-encoded."""
    version: str = "1"
    """One of its versions."""
    inputs: list[dict[str, Any]] = field(default_factory=_image)
    """Its inputs as tensors of a request."""
    output: str = "probabilities"
    """Name of its first output."""


async def served(call: HttpInvoker, request: Request, *, needs_token: bool) -> Served:
    """Returns values for a request: preferably an image model, or a placeholder if its token may not list models."""
    host = request.headers.get("host", "127.0.0.1:8000")
    base = f"{request.scope.get('scheme', 'http')}://{host}"
    if needs_token and HEADER not in request.headers:
        return Served(base, "MODEL")
    message = pb.ListModelsRequest().SerializeToString()
    try:
        answer = await call(f"/{classifier.SERVICE}/ListModels", message, request.scope)
    except HttpError:
        return Served(base, "MODEL")
    ready = [each for each in pb.ListModelsResponse.FromString(answer).versions if each.outputs]
    if not ready:
        return Served(base, "MODEL")
    shown = next((each for each in ready if each.takes_images), ready[0])
    inputs = [_tensor(each) for each in shown.inputs]
    return Served(base, quote(shown.name), shown.version, inputs, shown.outputs[0].name)


def _tensor(tensor: pb.Tensor) -> dict[str, Any]:
    shape = [side if side >= 0 else 1 for side in tensor.shape]
    zero: Any = {"BYTES": "", "BOOL": False}.get(tensor.datatype, 0)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": shape,
        "data": [zero] * min(math.prod(shape), _MOST_ELEMENTS),
    }
