"""A load that varies: quiet, a burst, requests that are wrong, and pictures of another kind than the model's."""

import gzip
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub

from .panels import ROOT

_TIMEOUT_S = 60.0
_IMAGES = "t10k-images-idx3-ubyte.gz"
# As one whose deadline has passed, which the server fails.
_LATE_US = 1


@dataclass(frozen=True)
class Phase:
    """What is sent for a while."""

    model: str
    """Which is asked."""
    pictures: np.ndarray
    """What it is asked about: uint8 [N, 28, 28, 1]."""
    rows: int
    """Pictures in a request."""
    callers: int
    """Who send one request after another."""
    pause_s: float
    """Which each of them makes in between."""
    wrong_every: int = 0
    """After so many good requests a caller sends one for a model that is none, and one that is late; 0: never."""


def digits() -> np.ndarray:
    """Returns MNIST's test pictures, uint8 [10000, 28, 28, 1]."""
    return _read(ROOT / "tests" / "data" / "mnist" / _IMAGES)


def clothes() -> np.ndarray:
    """Returns some of Fashion-MNIST's test pictures, uint8 [100, 28, 28, 1]."""
    return _read(ROOT / "tests" / "data" / "tiny" / "fashion-mnist" / _IMAGES)


def _read(path: Path) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes())[16:], np.uint8).reshape(-1, 28, 28, 1)


def story() -> list[list[Phase]]:
    """Returns what happens, one thing after another, and what happens meanwhile each time."""
    seen, other = digits(), clothes()
    beside = Phase("fashion-mnist", other, rows=1, callers=1, pause_s=0.05)
    quiet = Phase("mnist-cnn", seen, rows=1, callers=4, pause_s=0.05)
    burst = Phase("mnist-cnn", seen, rows=8, callers=64, pause_s=0)
    wrong = Phase("mnist-cnn", seen, rows=1, callers=4, pause_s=0.05, wrong_every=10)
    strange = Phase("mnist-cnn", other, rows=1, callers=4, pause_s=0.05)
    return [[each, beside] for each in (quiet, burst, wrong, strange)]


@contextmanager
def sending(address: str, phases: Sequence[Phase]) -> Iterator[None]:
    """Sends these to the server whose gRPC API is there, all at once, until the block ends."""
    over = threading.Event()
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        threads = [
            threading.Thread(target=_send, args=(stub, phase, caller, over))
            for phase in phases
            for caller in range(phase.callers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _send(stub: GRPCInferenceServiceStub, phase: Phase, caller: int, over: threading.Event) -> None:
    choice = np.random.default_rng(caller)
    number = 0
    while not over.is_set():
        number += 1
        pictures = choice.choice(phase.pictures, phase.rows)
        stub.ModelInfer(_request(phase.model, pictures), timeout=_TIMEOUT_S)
        if phase.wrong_every and number % phase.wrong_every == 0:
            late = _request(phase.model, pictures)
            late.parameters["timeout"].int64_param = _LATE_US
            for wrong in (_request("none", pictures), late):
                with suppress(grpc.RpcError):
                    stub.ModelInfer(wrong, timeout=_TIMEOUT_S)
        time.sleep(phase.pause_s)


def _request(model: str, pictures: np.ndarray) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[pictures.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=pictures.shape)
    return request
