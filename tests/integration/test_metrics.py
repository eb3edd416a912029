"""The metrics page after real calls."""

import gzip
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
NAMES = 10_000


@pytest.fixture
def server(start_server: Callable[..., Any], doubler_repository: Path) -> Any:
    return start_server(doubler_repository, "--http", "--http-port", "0", "--max-message-mib", "1")


def page(server: Any) -> str:
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def calls(server: Any) -> dict[tuple[str, str, str], int]:
    """Returns how many calls were counted by method, code and reason."""
    found = re.findall(r"^pixelserve_requests_total\{(.*)\} (\S+)$", page(server), re.MULTILINE)
    counted = {}
    for labels, count in found:
        values = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted[values["method"], values["code"], values["reason"]] = int(float(count))
    return counted


def test_calls_are_counted_however_they_come_and_end(
    server: Any, make_request: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    stub = server.stub()
    stub.ModelInfer(make_request(), timeout=TIMEOUT_S)
    list(stub.ModelStreamInfer(iter([make_request(), make_request("none")]), timeout=TIMEOUT_S))
    for wrong in (make_request(model_version="new"), make_request("none")):
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(wrong, timeout=TIMEOUT_S)
    body = json.dumps({"inputs": []}).encode()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{server.http}/v2/models/doubler/infer", body, timeout=TIMEOUT_S)
    expected = {
        ("ModelInfer", "OK", ""): 2,
        ("ModelInfer", "NOT_FOUND", "not_found"): 2,
        ("ModelInfer", "INVALID_ARGUMENT", "invalid_request"): 2,
    }
    # An answer may arrive before it is counted.
    eventually(lambda: calls(server) == expected)


@pytest.mark.parametrize(
    ("path", "body", "headers", "counted"),
    [
        ("/v2/models/doubler/infer", b"no JSON", {}, ("HTTP", "INVALID_ARGUMENT", "invalid_request")),
        ("/v2/models/doubler/infer", b"{}", {"Content-Encoding": "br"}, ("HTTP", "415", "")),
        ("/v2/models/doubler/infer", None, {}, ("HTTP", "405", "")),
        ("/invented/path", None, {}, ("HTTP", "404", "")),
        ("/v2/models/none", None, {}, ("ModelMetadata", "NOT_FOUND", "not_found")),
    ],
)
def test_an_http_request_that_fails_is_counted_once(
    server: Any, call_http: Any, path: str, body: Any, headers: Any, counted: Any, eventually: Callable[..., None]
) -> None:
    assert call_http(server, path, body, headers).status >= 400
    eventually(lambda: calls(server) == {counted: 1})


@pytest.mark.slow
def test_names_that_clients_invent_become_no_labels(
    server: Any, make_request: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    before = len(page(server).splitlines())

    def requests() -> Iterator[pb.ModelInferRequest]:
        for number in range(NAMES):
            yield make_request(f"invented-{number}")

    answers = list(server.stub().ModelStreamInfer(requests(), timeout=TIMEOUT_S))
    assert len(answers) == NAMES
    eventually(lambda: calls(server)["ModelInfer", "NOT_FOUND", "not_found"] == NAMES)
    assert "invented" not in page(server)
    # The line of these calls, and the one that tells when it began.
    assert len(page(server).splitlines()) - before <= 2


def images(folder: Path) -> np.ndarray:
    """Returns a data set's test images, uint8 [N, 28, 28, 1]."""
    return np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8).reshape(
        -1, 28, 28, 1
    )


def drift(server: Any) -> dict[str, float]:
    """Returns how far the last predictions of mnist-cnn are from its card."""
    found = re.findall(
        r'^pixelserve_drift_stability_index\{model="mnist-cnn",of="(\w+)",.*\} (\S+)$', page(server), re.M
    )
    return {what: float(index) for what, index in found}


@pytest.mark.slow
def test_drift_tells_clothes_from_digits(start_server: Callable[..., Any], root: Path) -> None:
    """Timeline: 1. a digits' model sees digits: nothing has changed; 2. it sees clothes: much has."""
    server = start_server(root / "models", "--drift-window", "300")
    tiny = root / "tests" / "data" / "tiny"

    def send(pictures: np.ndarray) -> None:
        for batch in np.split(pictures[:300], 10):
            tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=batch.shape)
            request = pb.ModelInferRequest(
                model_name="mnist-cnn", inputs=[tensor], raw_input_contents=[batch.tobytes()]
            )
            server.stub().ModelInfer(request, timeout=TIMEOUT_S)

    assert drift(server) == {}
    send(images(root / "tests" / "data" / "mnist"))
    digits = drift(server)
    assert set(digits) == {"classes", "confidence"}
    assert max(digits.values()) < 0.25, digits
    send(images(tiny / "fashion-mnist"))
    clothes = drift(server)
    # Clothes fall into all classes, of which none is more usual than before; but hardly one is sure.
    assert clothes["confidence"] > 0.25, clothes
    assert clothes["classes"] > digits["classes"], (clothes, digits)
    assert re.search(r'pixelserve_predictions_total\{label="7",model="mnist-cnn",version="1"\} \d+', page(server))
