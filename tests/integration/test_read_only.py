"""A server on a read-only file system, as in containers."""

import http.client
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from pixelserve.oip import inference_pb2 as pb

# Each starts a process.
pytestmark = pytest.mark.slow

TIMEOUT_S = 30
# Whatever Python opens to write, or makes, is refused as a read-only file system does. /dev is writable in containers.
SITE = """
import errno, os, sys

sys.dont_write_bytecode = True
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def refuse_writes(event, args):
    is_write = event == "open" and args[2] & WRITES and isinstance(args[0], (str, bytes))
    if is_write and not os.fsdecode(args[0]).startswith("/dev/") or event in ("os.mkdir", "os.rename", "os.symlink"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), args[0])

sys.addaudithook(refuse_writes)
"""


@pytest.fixture
def read_only(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that cannot write files."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    return {"PYTHONPATH": str(folder)}


def picture() -> bytes:
    """Returns a PNG of more than a MiB, which a form's parser might put into a file."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 1 << 20
    return buffer.getvalue()


def classify_form(server: Any, content: bytes) -> Any:
    """Sends an image in a form and returns the response."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    connection = http.client.HTTPConnection(server.http.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        connection.request("POST", "/v1/models/mnist-cnn:classify", head + content + b"\r\n--x--\r\n", kind)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_every_way_in_works_on_a_read_only_file_system(
    root: Path, start_server: Callable[..., Any], read_only: dict[str, str], make_request: Any, make_tensor: Any
) -> None:
    server = start_server(root / "models", env=read_only)
    stub = server.stub()
    request = make_request("mnist-cnn", inputs=[make_tensor("image", "UINT8", [1, 28, 28, 1])], raw=[bytes(784)])
    assert len(stub.ModelInfer(request, timeout=TIMEOUT_S).outputs) == 1
    assert [len(each.infer_response.outputs) for each in stub.ModelStreamInfer(iter([request]))] == [1]
    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "classes" in classify_form(server, picture())["results"][0]
    assert server.stop() == 0


def test_a_load_that_needs_a_file_says_what_to_do(
    doubler_repository: Path, start_server: Callable[..., Any], read_only: dict[str, str]
) -> None:
    server = start_server(doubler_repository, "--model-control-mode", "explicit", env=read_only)
    request = pb.RepositoryModelLoadRequest(model_name="doubler")
    request.parameters["config"].string_param = '{"max_batch_size": 4}'
    with pytest.raises(grpc.RpcError) as caught:
        server.stub().RepositoryModelLoad(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "set TMPDIR" in caught.value.details()
