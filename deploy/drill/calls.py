"""The kinds of clients. Each checks its answers; a wrong answer counts as a failure."""

import asyncio
import gzip
import http.client
import json
import queue
import select
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np

from pixelserve.client import AsyncClient, Client, Prediction, Tls, Unavailable
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub

from .certificates import NAME
from .chart import ROOT

MODEL = "mnist-cnn"
DEADLINE_S = 5.0
"""Of every call."""
_SAMPLES = ROOT / "tests" / "data" / "mnist"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
# By default, gRPC resends calls that the server did not process because its connection was ending.
_NO_RETRIES = ("grpc.enable_retries", 0)


class WrongAnswer(Exception):
    """The answer is not the picture's label."""


class DrillClient(Protocol):
    """One client with one connection."""

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        """Returns a picture's label and the version that answered; raises on failure."""


def samples() -> list[tuple[np.ndarray, int]]:
    """Returns MNIST test pictures, uint8 [28, 28, 1], with labels; the model classifies all of them correctly."""
    pictures = np.frombuffer(gzip.decompress((_SAMPLES / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = gzip.decompress((_SAMPLES / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    return [(pictures[784 * each :][:784].reshape(28, 28, 1), labels[each]) for each in range(64)]


def status_of(error: Exception) -> str:
    """Returns a failure's name in reports."""
    if isinstance(error, grpc.RpcError):
        return str(error.code().name)
    if isinstance(error, Unavailable):
        return "UNAVAILABLE"
    return type(error).__name__


def details_of(error: Exception) -> str:
    """Returns a failure's details."""
    return str(error.details() if isinstance(error, grpc.RpcError) else error)[:200]


def request(picture: np.ndarray) -> pb.ModelInferRequest:
    """Returns the request for one picture."""
    message = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[picture.tobytes()])
    message.inputs.add(name="image", datatype="UINT8", shape=[1, 28, 28, 1])
    return message


def _read(answer: pb.ModelInferResponse) -> tuple[int, str]:
    return int(np.frombuffer(answer.raw_output_contents[0], np.float32).argmax()), answer.model_version


class Plain:
    """grpcio without retries."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._stub = GRPCInferenceServiceStub(self._channel(target, ca))

    def _channel(self, target: str, ca: Path | None) -> grpc.Channel:
        return channel(target, ca, _NO_RETRIES)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        return _read(self._stub.ModelInfer(request(picture), timeout=DEADLINE_S))


class Default(Plain):
    """grpcio with its defaults."""

    def _channel(self, target: str, ca: Path | None) -> grpc.Channel:
        return channel(target, ca)


class Stream:
    """One ModelStreamInfer call for many requests, each sent after the previous answer."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._stub = GRPCInferenceServiceStub(channel(target, ca, _NO_RETRIES))
        self._requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
        self._answers: Any = None

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        if self._answers is None or self._answers.done():
            # The server ended it between two requests, so no request is lost.
            self._requests = queue.SimpleQueue()
            self._answers = self._stub.ModelStreamInfer(iter(self._requests.get, None))
        self._requests.put(request(picture))
        try:
            answer = next(self._answers)
        except (StopIteration, grpc.RpcError):
            self._requests.put(None)
            raise
        if answer.error_message:
            raise RuntimeError(answer.error_message)
        return _read(answer.infer_response)


class Sdk:
    """`pixelserve.Client` with its retries."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._client = Client(target, tls=_tls(ca), timeout_s=DEADLINE_S)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        answer = self._client.classify(picture, model=MODEL)
        return int(answer.label), answer.version


class AsyncSdk:
    """`pixelserve.AsyncClient`."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(target, tls=_tls(ca), timeout_s=DEADLINE_S)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        answer = self._runner.run(self._ask(picture))
        return int(answer.label), answer.version

    async def _ask(self, picture: np.ndarray) -> Prediction:
        answer: Prediction = await self._client.classify(picture, model=MODEL)
        return answer


class Http:
    """HTTP/1.1 on a kept connection; reopened when the server announces that it closes."""

    def __init__(self, target: str, ca: Path | None) -> None:
        del ca
        self._connection = http.client.HTTPConnection(target, timeout=DEADLINE_S)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        inputs = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": picture.ravel().tolist()}
        if self._connection.sock and select.select([self._connection.sock], [], [], 0)[0]:
            # Closed by the server since the last answer; connection pools check this too.
            self._connection.close()
        try:
            self._connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [inputs]}))
            answer = self._connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {body}")
        return int(np.argmax(body["outputs"][0]["data"])), body["model_version"]


KINDS: dict[str, tuple[type[Any], ...]] = {
    "plain": (Plain,),
    "default": (Default,),
    "sdk": (Sdk, Sdk, AsyncSdk),
    "stream": (Stream,),
    "http": (Http,),
}
"""The clients of each kind's workers, in turn."""


def channel(target: str, ca: Path | None, *options: tuple[str, int]) -> grpc.Channel:
    """Returns a channel with its own connection."""
    all_options = (*_OPTIONS, *options)
    if ca is None:
        return grpc.insecure_channel(target, all_options)
    named = (*all_options, ("grpc.ssl_target_name_override", NAME))
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca.read_bytes()), named)


def _tls(ca: Path | None) -> Tls | None:
    return None if ca is None else Tls(ca=ca, server_name=NAME)
