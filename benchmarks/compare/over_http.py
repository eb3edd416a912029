"""The same request over HTTP with keep-alive: a binary tensor after JSON, like Triton's client."""

import http.client
import json
from urllib.parse import urlsplit

from pixelserve.oip import inference_pb2 as pb

from .bodies import MODEL, Images
from .errors import LoadError
from .load import Target

_LENGTH = "Inference-Header-Content-Length"
_TIMEOUT_S = 20.0


def target(port: int, images: Images, identity: str = "") -> Target:
    """Returns one request for all images, with a binary tensor as its answer."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": images.shape}
    head = json.dumps(
        {
            **({"id": identity} if identity else {}),
            "inputs": [{**tensor, "parameters": {"binary_data_size": images.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}
    return Target(f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer", head + images.tobytes(), headers, is_http1=True)


def ask(port: int, images: Images, identity: str) -> pb.ModelInferResponse:
    """Sends such a request and returns the answer as a gRPC message.

    Raises:
        LoadError: it is an error.
    """
    wanted = target(port, images, identity)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", urlsplit(wanted.url).path, wanted.body, dict(wanted.headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise LoadError(f"a valid HTTP request was answered with {answer.status}: {body[:500]!r}")
    head_bytes = int(answer.headers[_LENGTH])
    head = json.loads(body[:head_bytes])
    (output,) = head["outputs"]
    response = pb.ModelInferResponse(id=head.get("id", ""), raw_output_contents=[body[head_bytes:]])
    response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
    return response
