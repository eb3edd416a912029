"""Several models under load at once: each is served, regardless of the others."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow
TIMEOUT_S = 60
IN_FLIGHT = 16
ENOUGH = 50
IMAGES = ("mnist-cnn", "mnist", "fashion-mnist")


@pytest.fixture
def repository(tmp_path: Path, root: Path, model_writer: Callable[..., Path]) -> Path:
    """The committed classifiers, which have work to do, and a model that has next to none."""
    for name in IMAGES:
        (tmp_path / name).symlink_to(root / "models" / name)
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    return tmp_path


def images_request(model: str, rows: int) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[rows, 28, 28, 1])
    pixels = np.zeros((rows, 28, 28, 1), np.uint8).tobytes()
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[pixels]).SerializeToString()


async def load_all(address: str, bodies: dict[str, bytes]) -> tuple[Counter[str], list[str]]:
    """Keeps requests for every model in flight until each has enough answers; returns how many, and errors."""
    answers: Counter[str] = Counter()
    errors: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def worker(model: str, body: bytes) -> None:
            while not errors and any(answers[each] < ENOUGH for each in bodies):
                try:
                    await infer(body, timeout=TIMEOUT_S)
                    answers[model] += 1
                except grpc.aio.AioRpcError as error:
                    errors.append(f"{model}: {error.code().name}: {error.details()}")

        # Every model has more in flight than the others can be ahead of it.
        await asyncio.gather(*(worker(*each) for each in bodies.items() for _ in range(IN_FLIGHT)))
    return answers, errors


def test_no_model_starves_another(
    start_server: Callable[..., Any], repository: Path, make_request: Callable[..., pb.ModelInferRequest]
) -> None:
    server = start_server(repository)
    # Large requests for one, single images for the others.
    bodies = {name: images_request(name, 32 if name == "mnist" else 1) for name in IMAGES}
    bodies["doubler"] = make_request().SerializeToString()
    answers, errors = asyncio.run(load_all(server.grpc, bodies))
    assert errors == []
    assert all(answers[name] >= ENOUGH for name in bodies), answers
