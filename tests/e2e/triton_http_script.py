"""A third-party client over HTTP: the public tritonclient, in its own environment, without this project's code.

Usage: python triton_http_script.py HOST:PORT IMAGES.npz; prints what it got as one JSON object.
IMAGES.npz holds `images`, uint8 [N, 28, 28, 1].
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from tritonclient import http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException


def image_input(images: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("image", list(images.shape), "UINT8")
    return given.set_data_from_numpy(images, binary_data=binary)


def refusal(call: Any) -> list[str] | None:
    """Returns the status and the message of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def labels(result: Any) -> list[int]:
    return result.as_numpy("probabilities").argmax(axis=1).tolist()


async def asynchronous(address: str, images: np.ndarray) -> dict[str, Any]:
    async with aio.InferenceServerClient(address) as client:
        several = await asyncio.gather(*(client.infer("mnist-cnn", [image_input(images)]) for _ in range(5)))
        metadata = await client.get_model_metadata("mnist-cnn")
        return {"labels": [labels(each) for each in several], "metadata": metadata["name"]}


def main() -> None:
    address, images = sys.argv[1], np.load(sys.argv[2])["images"]
    client = triton.InferenceServerClient(address, concurrency=4)
    whole = client.infer("mnist-cnn", [image_input(images)], request_id="whole")
    as_json = client.infer(
        "mnist-cnn",
        [image_input(images[:2], binary=False)],
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=False)],
    )
    packed = {
        name: labels(
            client.infer(
                "mnist-cnn",
                [image_input(images)],
                request_compression_algorithm=name,
                response_compression_algorithm=name,
            )
        )
        for name in ("gzip", "deflate")
    }
    top = {
        str(binary): client.infer(
            "mnist-cnn",
            [image_input(images[:1])],
            outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)],
            model_version="1",
            timeout=60_000_000,
            priority=1,
            parameters={"purpose": "test"},
        ).as_numpy("probabilities")[0]
        for binary in (True, False)
    }
    pending = [client.async_infer("mnist-cnn", [image_input(images)]) for _ in range(5)]
    # Before anything else is asked: an answer that was not taken keeps its connection, of which the client has four.
    at_once = [labels(each.get_result()) for each in pending]
    wrong = triton.InferInput("image", [1, 28, 28], "UINT8").set_data_from_numpy(images[:1, :, :, 0])
    answer = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [client.is_model_ready("mnist-cnn", "1"), client.is_model_ready("none")],
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("mnist-cnn"),
        "statistics": client.get_inference_statistics("mnist-cnn", "1"),
        "statistics_of_all": client.get_inference_statistics(),
        "id": whole.get_response()["id"],
        "version": whole.get_response()["model_version"],
        "dtype": str(whole.as_numpy("probabilities").dtype),
        "labels": labels(whole),
        "labels_as_json": labels(as_json),
        "labels_packed": packed,
        "labels_at_once": at_once,
        # Text where it came as JSON, bytes where it came as binary data.
        "top": [[e.decode() if isinstance(e, bytes) else e for e in each] for each in top.values()],
        "refusal": refusal(lambda: client.infer("mnist-cnn", [wrong])),
        "unknown": refusal(lambda: client.infer("none", [image_input(images)])),
        "asynchronous": asyncio.run(asynchronous(address, images)),
        "own_modules": sorted(name for name in sys.modules if name.startswith("pixelserve")),
    }
    print(json.dumps(answer))


main()
