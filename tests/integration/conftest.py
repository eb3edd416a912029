"""Fixtures of the integration tests: requests, and repositories of small models."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

Parameters = dict[str, pb.InferParameter]


def tensor(name: str, datatype: str, shape: Sequence[int]) -> pb.ModelInferRequest.InferInputTensor:
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)


def infer_request(
    model: str = "doubler", *, rows: int = 1, inputs: Any = None, raw: Sequence[bytes] | None = None, **fields: Any
) -> pb.ModelInferRequest:
    """Returns a good request of the doubler, rows of [0, 1, 2, 3], [4, 5, 6, 7] and so on, unless told otherwise."""
    values = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[tensor("values", "FP32", values.shape)] if inputs is None else inputs,
        raw_input_contents=[values.tobytes()] if raw is None else raw,
        **fields,
    )


@pytest.fixture(scope="session")
def make_request() -> Callable[..., pb.ModelInferRequest]:
    """`infer_request`."""
    return infer_request


@pytest.fixture(scope="session")
def make_tensor() -> Callable[..., pb.ModelInferRequest.InferInputTensor]:
    """`tensor`."""
    return tensor


@pytest.fixture(scope="session")
def write_patient_model(model_writer: Callable[..., Path]) -> Callable[..., None]:
    """Writes a doubler to a model folder; it waits until a batch of that many rows is full, or an hour."""

    def write(folder: Path, *, rows: int, max_queue_size: int = 100, delay_s: int = 3600) -> None:
        model_writer(folder / "1" / "model.onnx")
        (folder / "config.pbtxt").write_text(
            f"max_batch_size: {rows} dynamic_batching {{ max_queue_delay_microseconds: {delay_s}000000 "
            f"default_queue_policy {{ max_queue_size: {max_queue_size} }} }}"
        )

    return write


@dataclass
class HttpAnswer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    """By name in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error; fails where there is anything beside it."""
        assert list(self.json) == ["error"], self.body
        return str(self.json["error"])


def http_call(
    server: Any, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
) -> HttpAnswer:
    """Sends an HTTP request on a new connection: POST with a body, which is JSON unless bytes."""
    connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=30)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, content, dict(headers or {}))
        answer = connection.getresponse()
        return HttpAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="session")
def call_http() -> Callable[..., HttpAnswer]:
    """`http_call`."""
    return http_call
