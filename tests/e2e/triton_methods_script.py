"""A third-party client that calls every public method of one of tritonclient's four clients.

Usage: python triton_methods_script.py CLIENT HOST:PORT IMAGES.npz, where CLIENT is grpc, grpc.aio, http or http.aio.
IMAGES.npz holds `images`, uint8 [N, 28, 28, 1]. The server has mnist-cnn loaded, and loads other models when asked.
It prints one JSON object: `methods`, the names of the client's public methods; `answers`, what each call gave, by
method and in order, where a refusal is {"refused": [status, message]}; and `own_modules`.
"""

import asyncio
import importlib
import inspect
import json
import queue
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException, shared_memory

MODEL, OTHER_MODEL = "mnist-cnn", "fashion-mnist"
PATIENCE_S = 30


def labels(result: Any) -> list[int]:
    return result.as_numpy("probabilities").argmax(axis=1).tolist()


class Walk:
    """Calls one client's methods, coroutines or not, and keeps the results."""

    def __init__(self, client: str, address: str, images: np.ndarray) -> None:
        self.protocol = client.partition(".")[0]
        self.is_async = client.endswith(".aio")
        self.tensors = importlib.import_module(f"tritonclient.{self.protocol}")
        self.client = importlib.import_module(f"tritonclient.{client}").InferenceServerClient(address)
        self.address, self.images = address, images
        self.answers: dict[str, list[Any]] = {}

    async def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method and keeps its answer, or that it was refused."""
        call = getattr(self.client, method)
        if self.protocol == "grpc" and "as_json" in inspect.signature(call).parameters:
            kwargs["as_json"] = True
        try:
            answer = call(*args, **kwargs)
            if inspect.isawaitable(answer):
                answer = await answer
        except InferenceServerException as error:
            answer = {"refused": [error.status(), error.message()]}
        return self.keep(method, answer)

    def keep(self, method: str, answer: Any) -> Any:
        self.answers.setdefault(method, []).append(answer)
        return answer

    def image(self, images: np.ndarray) -> Any:
        given = self.tensors.InferInput("image", list(images.shape), "UINT8")
        given.set_data_from_numpy(images)
        return given

    async def everything(self) -> None:
        await self.health_and_metadata()
        await self.models_come_and_go()
        await self.log_and_traces()
        await self.inference()
        if self.protocol == "grpc":
            await self.stream()
        else:
            await self.bodies()
        await self.system_shared_memory()
        await self.cuda_shared_memory()
        await self.plugin()
        await self.ask("close")

    async def health_and_metadata(self) -> None:
        await self.ask("is_server_live")
        await self.ask("is_server_ready")
        await self.ask("get_server_metadata")
        await self.ask("get_model_metadata", MODEL, "1")
        await self.ask("get_model_config", MODEL)

    async def models_come_and_go(self) -> None:
        await self.ask("is_model_ready", OTHER_MODEL)
        await self.ask("load_model", OTHER_MODEL)
        await self.ask("is_model_ready", OTHER_MODEL)
        await self.ask("get_model_repository_index")
        await self.ask("unload_model", OTHER_MODEL)
        await self.ask("is_model_ready", OTHER_MODEL)

    async def log_and_traces(self) -> None:
        await self.ask("get_log_settings")
        await self.ask("update_log_settings", {"log_verbose_level": 1})
        await self.ask("update_log_settings", {"log_verbose_level": 0})
        await self.ask("get_trace_settings", MODEL)
        await self.ask("update_trace_settings", MODEL, {"trace_rate": "1"})

    async def inference(self) -> None:
        self.keep("infer", labels(await self.outcome("infer", request_id="1")))
        if not self.is_async:
            self.keep("async_infer", labels(await self.outcome("async_infer")))
        await self.ask("get_inference_statistics", MODEL, "1")

    async def outcome(self, method: str, **options: Any) -> Any:
        """Returns the result of inference on all images, however the client gives it."""
        given = getattr(self.client, method)
        if method == "infer":
            result = given(MODEL, [self.image(self.images)], **options)
            return await result if self.is_async else result
        if self.protocol == "http":
            return given(MODEL, [self.image(self.images)]).get_result()
        answers: queue.Queue[Any] = queue.Queue()
        given(MODEL, [self.image(self.images)], lambda result, error: answers.put(error or result))
        return answers.get(timeout=PATIENCE_S)

    async def stream(self) -> None:
        if self.is_async:
            answers = self.client.stream_infer(self.requests())
            self.keep("stream_infer", [self.streamed(result, error) async for result, error in answers])
            return
        answers = []
        await self.ask("start_stream", lambda result, error: answers.append(self.streamed(result, error)))
        async for request in self.requests():
            self.client.async_stream_infer(**request)
        await self.ask("stop_stream")
        self.keep("async_stream_infer", answers)

    async def requests(self) -> AsyncIterator[dict[str, Any]]:
        """Gives a stream's requests: one for each image, and one for a model that is not there."""
        for number, image in enumerate(self.images):
            yield {"model_name": MODEL, "inputs": [self.image(image[None])], "request_id": str(number)}
        yield {"model_name": "none", "inputs": [self.image(self.images)]}

    def streamed(self, result: Any, error: Any) -> list[Any]:
        return ["", str(error)] if error else [result.get_response().id, *labels(result)]

    async def bodies(self) -> None:
        """Has the client write a request and read an answer that something else carries."""
        body, head_bytes = self.client.generate_request_body([self.image(self.images)], request_id="carried")
        self.keep("generate_request_body", head_bytes)
        url = f"http://{self.address}/v2/models/{MODEL}/infer"
        request = urllib.request.Request(url, body, {"Inference-Header-Content-Length": str(head_bytes)})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            length = answer.headers["Inference-Header-Content-Length"]
            result = self.client.parse_response_body(answer.read(), header_length=length and int(length))
        self.keep("parse_response_body", [result.get_response()["id"], labels(result)])

    async def system_shared_memory(self) -> None:
        size = self.images.nbytes
        key = f"/pixelserve-test-{uuid.uuid4().hex}"
        memory = shared_memory.create_shared_memory_region("pictures", key, size)
        try:
            shared_memory.set_shared_memory_region(memory, [self.images])
            refused = await self.ask("register_system_shared_memory", "pictures", key, size)
            await self.ask("get_system_shared_memory_status")
            if refused is None:
                batch = self.tensors.InferInput("image", list(self.images.shape), "UINT8")
                batch.set_shared_memory("pictures", size)
                result = self.client.infer(MODEL, [batch])
                self.keep("infer", labels(await result if self.is_async else result))
            await self.ask("unregister_system_shared_memory", "pictures")
            await self.ask("get_system_shared_memory_status")
        finally:
            shared_memory.destroy_shared_memory_region(memory)

    async def cuda_shared_memory(self) -> None:
        # The handle is none; a server that takes CUDA's memory would say so in another way than one that does not.
        await self.ask("register_cuda_shared_memory", "pictures", b"bm9uZQ==", 0, 784)
        await self.ask("get_cuda_shared_memory_status")
        await self.ask("unregister_cuda_shared_memory", "pictures")

    async def plugin(self) -> None:
        """Has a plugin of the client see a request's headers."""
        base = importlib.import_module("tritonclient._plugin").InferenceServerClientPlugin
        seen: list[bool] = []

        class Plugin(base):
            def __call__(self, request: Any) -> None:
                seen.append(isinstance(request.headers, dict))

        plugin = Plugin()
        await self.ask("register_plugin", plugin)
        self.keep("plugin", self.client.plugin() is plugin)
        await self.ask("is_server_live")
        await self.ask("unregister_plugin")
        await self.ask("is_server_live")
        self.keep("plugin", seen)


async def main() -> None:
    walk = Walk(sys.argv[1], sys.argv[2], np.load(sys.argv[3])["images"])
    await walk.everything()
    methods = [name for name, _ in inspect.getmembers(type(walk.client), callable) if not name.startswith("_")]
    own_modules = sorted(name for name in sys.modules if name.startswith("pixelserve"))
    print(json.dumps({"methods": methods, "answers": walk.answers, "own_modules": own_modules}))


asyncio.run(main())
