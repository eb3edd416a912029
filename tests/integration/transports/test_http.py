"""The HTTP port: requests of every kind, on persistent connections."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.parametrize("security", ["plain", "tls", "mtls"], indirect=True)
INFER = "/v2/models/doubler/infer"
TENSOR = {"name": "values", "datatype": "FP32", "shape": [1, 4]}
LIMIT_BYTES = 1 << 20


def test_it_is_live(served: Any) -> None:
    assert served.http("/v2/health/live").status == 200
    # One of its models is damaged; Triton's clients expect this status.
    assert served.http("/v2/health/ready").status == 400


def test_it_describes_itself_and_its_models(served: Any) -> None:
    assert served.http("/v2").json["name"] == "pixelserve"
    assert served.http("/v2/models/doubler").json["inputs"] == [{**TENSOR, "shape": [-1, 4]}]


def test_a_request_in_json_is_answered_in_json(served: Any) -> None:
    answer = served.http(INFER, {"id": "übung", "inputs": [{**TENSOR, "data": [0, 1, 2, 3]}]})
    assert (answer.status, answer.json["id"]) == (200, "übung")
    assert answer.json["outputs"][0]["data"] == [0, 2, 4, 6]


def test_a_request_in_binary_is_answered_in_binary(served: Any) -> None:
    head = {
        "inputs": [{**TENSOR, "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "doubled", "parameters": {"binary_data": True}}],
    }
    sent = json.dumps(head).encode()
    answer = served.http(
        INFER, sent + struct.pack("<4f", 0, 1, 2, 3), {"Inference-Header-Content-Length": str(len(sent))}
    )
    assert answer.status == 200
    values = answer.body[int(answer.headers["inference-header-content-length"]) :]
    assert np.frombuffer(values, "<f4").tolist() == [0, 2, 4, 6]


def test_a_picture_is_classified(served: Any) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.array([[10, 200, 30]], np.uint8)).save(picture, "PNG")
    answer = served.http("/v1/models/colours:classify", picture.getvalue(), {"Content-Type": "image/png"})
    assert answer.status == 200
    assert answer.json["results"][0]["classes"][0]["label"] == "green"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/models/none", None, 404),
        ("/nowhere", None, 404),
        (INFER, None, 405),
        (INFER, b"{", 400),
        (INFER, {"inputs": [{**TENSOR, "datatype": "INT8", "data": [0]}]}, 400),
        (INFER, b" " * (LIMIT_BYTES + 1), 413),
    ],
    ids=["unknown model", "unknown path", "wrong method", "not JSON", "wrong tensor", "too large"],
)
def test_a_refusal_is_json_with_a_reason(served: Any, path: str, body: Any, status: int) -> None:
    answer = served.http(path, body)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert answer.json["error"]


def test_a_full_queue_says_when_to_come_back(served: Any, make_request: Any, eventually: Any) -> None:
    waiting = served.stub().ModelInfer.future(make_request("narrow"), timeout=60)
    eventually(lambda: served.pending("narrow") == 1)
    answer = served.http("/v2/models/narrow/infer", {"inputs": [{**TENSOR, "data": [0, 1, 2, 3]}]})
    assert answer.status == 429
    waiting.cancel()
    eventually(lambda: served.pending("narrow") == 0)


def test_a_connection_lasts_from_one_request_to_the_next(served: Any) -> None:
    connection = served.connect_http()
    headers = {"Authorization": f"Bearer {served.security.token}"} if served.security.token else {}
    connection.connect()
    kept = connection.sock
    for number in range(50):
        # Refusals end no connection either.
        body = json.dumps({"id": str(number), "inputs": [{**TENSOR, "data": [number] * 4}]}) if number % 5 else "{"
        connection.request("POST", INFER, body, headers)
        answer = connection.getresponse()
        assert answer.status == (200 if number % 5 else 400)
        answer.read()
        assert connection.sock is kept
    connection.close()


def test_a_body_may_come_in_chunks(served: Any) -> None:
    headers = {"Authorization": f"Bearer {served.security.token}"} if served.security.token else {}
    body = json.dumps({"inputs": [{**TENSOR, "data": [0, 1, 2, 3]}]}).encode()
    connection = served.connect_http()
    connection.request("POST", INFER, iter([body[:10], body[10:]]), headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
