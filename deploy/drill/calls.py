"""One call of each kind of client. Each checks the answer: a wrong one is a failure too."""

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
# As it comes, gRPC sends again what a server never looked at: calls that cross the news that their connection ends.
_NO_RETRIES = ("grpc.enable_retries", 0)


class WrongAnswer(Exception):
    """An answer came, and it is not the picture's label."""


class DrillClient(Protocol):
    """One client with one connection."""

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        """Returns a picture's label and the version that gave it; raises what failed."""


def samples() -> list[tuple[np.ndarray, int]]:
    """Returns MNIST test pictures, uint8 [28, 28, 1], with labels; the model is right about all of these."""
    pictures = np.frombuffer(gzip.decompress((_SAMPLES / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = gzip.decompress((_SAMPLES / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    return [(pictures[784 * each :][:784].reshape(28, 28, 1), labels[each]) for each in range(64)]


def status_of(error: Exception) -> str:
    """Returns what a failure is called in reports."""
    if isinstance(error, grpc.RpcError):
        return str(error.code().name)
    if isinstance(error, Unavailable):
        return "UNAVAILABLE"
    return type(error).__name__


def details_of(error: Exception) -> str:
    """Returns what a failure says."""
    return str(error.details() if isinstance(error, grpc.RpcError) else error)[:200]


def request(picture: np.ndarray) -> pb.ModelInferRequest:
    """Returns the request for one picture."""
    message = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[picture.tobytes()])
    message.inputs.add(name="image", datatype="UINT8", shape=[1, 28, 28, 1])
    return message


def _read(answer: pb.ModelInferResponse) -> tuple[int, str]:
    return int(np.frombuffer(answer.raw_output_contents[0], np.float32).argmax()), answer.model_version


class Plain:
    """grpcio that sends nothing again."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._stub = GRPCInferenceServiceStub(self._channel(target, ca))

    def _channel(self, target: str, ca: Path | None) -> grpc.Channel:
        return channel(target, ca, _NO_RETRIES)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        return _read(self._stub.ModelInfer(request(picture), timeout=DEADLINE_S))


class Default(Plain):
    """grpcio as it comes."""

    def _channel(self, target: str, ca: Path | None) -> grpc.Channel:
        return channel(target, ca)


class Stream:
    """One ModelStreamInfer call for many requests, each sent after the answer to the one before."""

    def __init__(self, target: str, ca: Path | None) -> None:
        self._stub = GRPCInferenceServiceStub(channel(target, ca, _NO_RETRIES))
        self._requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
        self._answers: Any = None

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        if self._answers is None or self._answers.done():
            # The server has ended it between two requests: no request is lost.
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
    """`pixelserve.Client` with its own retries."""

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
    """HTTP/1.1 on a connection that is kept; opened anew where the server has said that it closes."""

    def __init__(self, target: str, ca: Path | None) -> None:
        del ca
        self._connection = http.client.HTTPConnection(target, timeout=DEADLINE_S)

    def call(self, picture: np.ndarray) -> tuple[int, str]:
        inputs = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": picture.ravel().tolist()}
        if self._connection.sock and select.select([self._connection.sock], [], [], 0)[0]:
            # Closed by the server since the last answer; every pool of connections looks.
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
"""What workers of each kind use, in turn."""


def channel(target: str, ca: Path | None, *options: tuple[str, int]) -> grpc.Channel:
    """Returns a channel with a connection of its own."""
    all_options = (*_OPTIONS, *options)
    if ca is None:
        return grpc.insecure_channel(target, all_options)
    named = (*all_options, ("grpc.ssl_target_name_override", NAME))
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca.read_bytes()), named)


def _tls(ca: Path | None) -> Tls | None:
    return None if ca is None else Tls(ca=ca, server_name=NAME)
