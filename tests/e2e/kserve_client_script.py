"""A third-party client: the public KServe package, in its own environment, without this project's code.

Usage: python kserve_client_script.py HOST:GRPC_PORT URL IMAGES.npz, where URL is the server's HTTP side.
IMAGES.npz holds `images`, uint8 [N, 28, 28, 1]. It prints what it got over each as one JSON object.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

Infer = Callable[[InferRequest], Awaitable[Any]]


def request(images: np.ndarray, *, model: str = "mnist-cnn", binary: bool = True) -> InferRequest:
    image = InferInput("image", list(images.shape), "UINT8")
    image.set_data_from_numpy(images, binary_data=binary)
    return InferRequest(model, [image], request_id="whole")


async def predictions(infer: Infer, images: np.ndarray) -> dict[str, Any]:
    """Returns what inference gives, with the images as bytes and as numbers, and the refusals of wrong requests."""
    found: dict[str, Any] = {}
    for binary in (True, False):
        response = await infer(request(images, binary=binary))
        probabilities = response.outputs[0].as_numpy()
        found["bytes" if binary else "numbers"] = {
            "id": response.id,
            "output": [response.outputs[0].name, response.outputs[0].datatype],
            "shape": list(probabilities.shape),
            "labels": probabilities.argmax(axis=1).tolist(),
        }
    found["refusals"] = [
        await refusal(infer(wrong)) for wrong in (request(images[:, :5]), request(images, model="none"))
    ]
    return found


async def refusal(answer: Awaitable[Any]) -> list[Any]:
    """Returns the status and the message of a call that must fail."""
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return [error.code().name, error.details()]
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    return []


async def over_grpc(address: str, images: np.ndarray) -> dict[str, Any]:
    async with InferenceGRPCClient(address) as client:
        health = [await client.is_server_live(), await client.is_server_ready()]
        health += [await client.is_model_ready("mnist-cnn"), await client.is_model_ready("none")]
        return {"health": health, **await predictions(client.infer, images)}


async def over_http(url: str, images: np.ndarray) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        health = [await client.is_server_live(url), await client.is_server_ready(url)]
        health += [await client.is_model_ready(url, "mnist-cnn"), await client.is_model_ready(url, "none")]

        async def infer(wanted: InferRequest) -> Any:
            return await client.infer(url, wanted, model_name=wanted.model_name)

        return {"health": health, **await predictions(infer, images)}


async def main() -> None:
    address, url, images = sys.argv[1], sys.argv[2], np.load(sys.argv[3])["images"]
    found = {"grpc": await over_grpc(address, images), "http": await over_http(url, images)}
    own_modules = sorted(name for name in sys.modules if name.startswith("pixelserve"))
    print(json.dumps({**found, "own_modules": own_modules}))


asyncio.run(main())
