"""The access log of a real server process."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

pytestmark = pytest.mark.slow
TIMEOUT_S = 30
TRACE = "0af7651916cd43dd8448eb211c80319c"
METADATA = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-00"),)
ALL = ("--access-log-per-s", "1000")
# Stands for what must not be in any log: a token, a password, pixels.
SECRET = "c0nf1dent1al"


def requests_of(server: Any) -> list[dict[str, Any]]:
    return [event for event in server.events() if event["event"] == "request"]


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return str(error.code().name)


def test_each_way_to_ask_gives_a_line(
    start_server: Callable[..., Any], doubler_repository: Path, make_request: Any, call_http: Any
) -> None:
    server = start_server(doubler_repository, *ALL)
    stub = server.stub()
    stub.ModelInfer(make_request(id="one"), metadata=METADATA, timeout=TIMEOUT_S)
    # A head that is remembered.
    stub.ModelInfer(make_request(id="two"), metadata=METADATA, timeout=TIMEOUT_S)
    assert len(list(stub.ModelStreamInfer(iter([make_request(id="three")]), metadata=METADATA))) == 1
    body = {"id": "four", "inputs": [{"name": "values", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    assert call_http(server, "/v2/models/doubler/infer", body, dict(METADATA)).status == 200
    assert refused(lambda: stub.ModelInfer(make_request("none", id="five"), metadata=METADATA)) == "NOT_FOUND"
    assert refused(lambda: stub.ModelInfer(make_request(raw=[b"1"], id="six"), metadata=METADATA)) == "INVALID_ARGUMENT"
    stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
    assert server.stop() == 0
    # A line is written after its answer was sent, so the next call's line may come first.
    order = ("one", "two", "three", "four", "five", "six")
    lines = sorted(requests_of(server), key=lambda line: order.index(line["request_id"]))
    found = [(line["request_id"], line["via"], line["model"], line["code"]) for line in lines]
    assert found == [
        ("one", "grpc", "doubler", "OK"),
        ("two", "grpc", "doubler", "OK"),
        ("three", "stream", "doubler", "OK"),
        ("four", "http", "doubler", "OK"),
        ("five", "grpc", "none", "NOT_FOUND"),
        ("six", "grpc", "doubler", "INVALID_ARGUMENT"),
    ]
    assert {line["trace_id"] for line in lines} == {TRACE}
    assert {line["method"] for line in lines} == {"ModelInfer"}
    for line in lines[:4]:
        assert line["version"] == "1"
        assert 0 <= line["queue_ms"] <= line["duration_ms"]
        assert 0 < line["compute_ms"] <= line["duration_ms"]
        assert line["batch_size"] == 1
    assert "reason" not in lines[0]
    assert lines[4]["reason"] == "not_found"


def test_under_load_only_some_calls_get_a_line(
    start_server: Callable[..., Any], doubler_repository: Path, make_request: Any
) -> None:
    server = start_server(doubler_repository, "--access-log-per-s", "0.01")
    stub = server.stub()
    for index in range(50):
        assert stub.ModelInfer(make_request(id=str(index)), timeout=TIMEOUT_S).id == str(index)
        assert refused(lambda: stub.ModelInfer(make_request("none"), timeout=TIMEOUT_S)) == "NOT_FOUND"
    assert server.stop() == 0
    # One of each sort.
    assert [line["code"] for line in requests_of(server)] == ["OK", "NOT_FOUND"]


def test_no_line_is_written_where_none_is_wanted(
    start_server: Callable[..., Any], doubler_repository: Path, make_request: Any
) -> None:
    server = start_server(doubler_repository, "--access-log-per-s", "0")
    server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S)
    assert server.stop() == 0
    assert requests_of(server) == []


def test_the_level_that_is_set_at_run_time_holds_for_these_lines_too(
    start_server: Callable[..., Any], doubler_repository: Path, make_request: Any
) -> None:
    server = start_server(doubler_repository, *ALL)
    stub = server.stub()
    stub.ModelInfer(make_request(id="before"), timeout=TIMEOUT_S)
    settings = {"log_info": pb.LogSettingsRequest.SettingValue(bool_param=False)}
    stub.LogSettings(pb.LogSettingsRequest(settings=settings), timeout=TIMEOUT_S)
    stub.ModelInfer(make_request(id="after"), timeout=TIMEOUT_S)
    assert server.stop() == 0
    assert [line.get("request_id") for line in requests_of(server)] == ["before"]


def secret_calls(stub: Any, channel: grpc.Channel, make_request: Any, make_tensor: Any) -> None:
    """Sends confidential values, in valid and invalid requests."""
    metadata = (("authorization", f"Bearer {SECRET}"), ("cookie", SECRET), ("x-api-key", SECRET))
    pixels = (SECRET.encode() * 100)[:784]
    image = [make_tensor("image", "UINT8", [1, 28, 28, 1])]
    stub.ModelInfer(make_request("mnist-cnn", inputs=image, raw=[pixels]), metadata=metadata, timeout=TIMEOUT_S)
    wrong = [
        make_request("mnist-cnn", inputs=image, raw=[pixels[:-1]]),
        make_request("mnist-cnn", inputs=[make_tensor("image", "BYTES", [1, 28, 28, 1])], raw=[pixels]),
        make_request("mnist-cnn", inputs=image, raw=[pixels] * 2),
        pb.ModelInferRequest(
            model_name="mnist-cnn",
            inputs=[
                pb.ModelInferRequest.InferInputTensor(
                    name="image", datatype="BYTES", shape=[1], contents=pb.InferTensorContents(bytes_contents=[pixels])
                )
            ],
        ),
    ]
    for request in wrong:
        assert refused(lambda request=request: stub.ModelInfer(request, metadata=metadata)) == "INVALID_ARGUMENT"
    pictures = [classifier_pb2.Image(encoded=pixels), classifier_pb2.Image(encoded=b"\x89PNG\r\n\x1a\n" + pixels)]
    classifier = classifier_pb2_grpc.ClassifierStub(channel)
    classifier.Classify(classifier_pb2.ClassifyRequest(model="mnist-cnn", images=pictures), metadata=metadata)


def test_no_pixel_no_token_and_no_secret_is_in_any_line(
    start_server: Callable[..., Any], root: Path, make_request: Any, make_tensor: Any, call_http: Any
) -> None:
    server = start_server(root / "models", *ALL, "--log-level", "debug")
    with grpc.insecure_channel(server.grpc) as channel:
        secret_calls(server.stub(), channel, make_request, make_tensor)
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": SECRET}
    path = "/v2/models/mnist-cnn/infer"
    for data in ([SECRET], [[SECRET] * 784], SECRET):
        tensor = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "UINT8", "data": data}
        assert call_http(server, path, {"inputs": [tensor]}, headers).status == 400
    assert call_http(server, path, SECRET.encode(), headers).status == 400
    assert call_http(server, f"/nowhere?token={SECRET}", None, headers).status == 404
    assert server.stop() == 0
    shown = "".join(server.lines)
    # As text, as base64 and as numbers.
    hidden = [SECRET, base64.b64encode(SECRET.encode()).decode()[:-4], str(list(SECRET.encode()))[1:-1]]
    assert len(requests_of(server)) == 6
    assert [text for text in hidden if text in shown] == []
