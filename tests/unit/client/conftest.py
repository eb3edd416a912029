"""What the client's tests share: a real gRPC server with scripted answers, and both clients behind one face."""

import asyncio
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pixelserve.client import AsyncClient, Client, retrying
from pixelserve.oip import inference_pb2, inference_pb2_grpc
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc

WAIT_S = 30


@dataclass
class Fail:
    """A step of a script: the call ends with this status."""

    code: grpc.StatusCode
    message: str = "as scripted"
    pushback_ms: str | None = None
    after: threading.Event | None = None
    """The event that it waits for."""


class Hold:
    """A step of a script: the call is held until the test lets it go on, or its caller leaves."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.left = threading.Event()
        self.go_on = threading.Event()

    def stay(self, context: grpc.ServicerContext) -> None:
        if not context.add_callback(self._ended):
            self._ended()
        self.arrived.set()
        assert self.go_on.wait(WAIT_S)

    def _ended(self) -> None:
        self.left.set()
        self.go_on.set()


class FakeRepository(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Loads and unloads by doing nothing, but keeps the names."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.unloaded: list[str] = []

    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.loaded.append(request.model_name)
        return inference_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.unloaded.append(request.model_name)
        return inference_pb2.RepositoryModelUnloadResponse()


class FakeServer(classifier_pb2_grpc.ClassifierServicer):
    """Answers as its script says, then as `by_picture` says of a first picture; else a file's text is its label."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.script: deque[Any] = deque()
        self.by_picture: dict[bytes, Any] = {}
        self.most_images = 1000
        self.too_many = Fail(grpc.StatusCode.INVALID_ARGUMENT)
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.remaining_s: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.on_classify: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        classifier_pb2_grpc.add_ClassifierServicer_to_server(self, self._server)
        servicer = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=self._pool)
        servicer.set("draining", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        self.repository = FakeRepository()
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.repository, self._server)
        add = self._server.add_insecure_port
        port = self._server.add_secure_port("127.0.0.1:0", credentials) if credentials else add("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    @property
    def calls(self) -> int:
        return len(self.requests)

    def stop(self) -> None:
        self._server.stop(0).wait(WAIT_S)
        self._pool.shutdown(wait=False)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        step = self._enter(request, context) or self.by_picture.get(request.images[0].encoded)
        if len(request.images) > self.most_images:
            step = self.too_many
        try:
            self.on_classify()
            if isinstance(step, Fail):
                fail(step, context)
            if isinstance(step, Hold):
                step.stay(context)
            return step if isinstance(step, pb.ClassifyResponse) else answer(request)
        finally:
            with self._lock:
                self.in_flight -= 1

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        step = self._enter(request, context)
        if isinstance(step, Fail):
            fail(step, context)
        tensors = [pb.Tensor(name="image", datatype="UINT8", shape=[-1, 28, 28, 1])]
        ready = pb.ModelVersion(
            name="mnist-cnn", version="1", state=pb.ModelVersion.STATE_READY, provider="CPUExecutionProvider",
            verified=True, evidence="replayed", card_json='{"task": "image"}', inputs=tensors,
            outputs=[pb.Tensor(name="p", datatype="FP32", shape=[-1, 2], labels=["0", "1"])], max_batch_size=64,
            takes_images=True,
        )  # fmt: skip
        broken = pb.ModelVersion(
            name="worn", version="2", state=pb.ModelVersion.STATE_UNAVAILABLE, reason="the hash is not the card's"
        )
        return pb.ListModelsResponse(versions=[each for each in (ready, broken) if request.name in ("", each.name)])

    def _enter(self, request: Any, context: Any) -> Any:
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self.remaining_s.append(context.time_remaining())
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return self.script.popleft() if self.script else None


def fail(step: Fail, context: Any) -> None:
    assert step.after is None or step.after.wait(WAIT_S)
    if step.pushback_ms is not None:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", step.pushback_ms),))
    context.abort(step.code, step.message)


def answer(request: Any) -> Any:
    results = [result(image, request) for image in request.images]
    return pb.ClassifyResponse(model=request.model, version=request.version or "1", results=results)


def result(image: Any, request: Any) -> Any:
    if image.encoded == b"broken":
        return pb.Result(error="this is not a picture")
    raw = image.raw
    label = image.encoded.decode(errors="replace")[:8] if image.encoded else f"{raw.height}x{raw.width}x{raw.channels}"
    classes = [pb.Class(label=label, index=7, probability=0.75), pb.Class(label="1", index=1, probability=0.25)]
    seen = pb.RawPixels(height=28, width=28, channels=1, data=bytes(28 * 28)) if request.return_seen else None
    return pb.Result(classes=classes[: request.top_k], seen=seen, occlusion=[0.25] * request.occlusion**2)


class BlockingAsyncClient:
    """AsyncClient with Client's interface: every call runs on an event loop in a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.wrapped = AsyncClient(*args, **kwargs)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def classify(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.wrapped.classify(*args, **kwargs))

    def classify_iter(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        # Like the client's, the outer function is not a generator, so its arguments are checked when it is called.
        return self._steps(self.wrapped.classify_iter(*args, **kwargs))

    def _steps(self, iterator: Any) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(iterator)

        try:
            while True:
                try:
                    yield self._run(step())
                except StopAsyncIteration:
                    return
        finally:
            self._run(iterator.aclose())

    def models(self, *args: Any) -> Any:
        return self._run(self.wrapped.models(*args))

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        self._run(self.wrapped.load_model(*args, **kwargs))

    def unload_model(self, *args: Any, **kwargs: Any) -> None:
        self._run(self.wrapped.unload_model(*args, **kwargs))

    def health(self, *args: Any) -> Any:
        return self._run(self.wrapped.health(*args))

    def close(self) -> None:
        self._run(self.wrapped.close())

    def end(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., FakeServer]]:
    """Starts fake servers on free ports and ends them after the test."""
    servers: list[FakeServer] = []

    def make(credentials: grpc.ServerCredentials | None = None) -> FakeServer:
        servers.append(FakeServer(credentials))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def fake(make_server: Callable[..., FakeServer]) -> FakeServer:
    """One fake server."""
    return make_server()


@pytest.fixture
def steps() -> SimpleNamespace:
    """The kinds of steps that a fake server's script may have."""
    return SimpleNamespace(Fail=Fail, Hold=Hold)


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of both kinds, one kind a run, with one face; closes them after the test."""
    clients: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        clients.append((Client if request.param == "sync" else BlockingAsyncClient)(*args, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.end() if isinstance(client, BlockingAsyncClient) else client.close()


class FakeTime:
    """A clock that stands still but for the client's waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, wait_s: float) -> None:
        self.waits_s.append(wait_s)
        self.now_s += wait_s

    def rule(self, client: Any) -> None:
        """Has a client's waits pass on this clock."""

        async def wait(wait_s: float) -> None:
            self.wait(wait_s)

        if isinstance(client, BlockingAsyncClient):
            client.wrapped._connections._sleep = wait
        else:
            client._connections._sleep = self.wait


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """A clock for deadlines and waits, and no jitter."""
    clock = FakeTime()
    monkeypatch.setattr(retrying, "time", clock)
    monkeypatch.setattr(retrying, "random", SimpleNamespace(random=lambda: 0.5))
    return clock


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A self-signed certificate for pixelserve.example: the paths `cert` and `key`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=pixelserve.example", "-addext", "subjectAltName=DNS:pixelserve.example"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return SimpleNamespace(cert=cert, key=key)


@pytest.fixture
def pictures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that the examples speak of."""
    for name, content in (
        ("seven.png", b"7"),
        ("broken.png", b"broken"),
        ("digits/1.png", b"7"),
        ("digits/2.png", b"7"),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path
