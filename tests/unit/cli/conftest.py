"""A server with scripted answers, in this process, and the command that talks to it."""

import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from pixelserve import cli
from pixelserve.oip import inference_pb2
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc

WAIT_S = 30
FLOAT32 = {"precision": "float32"}
CARD = {
    "schema_version": 1,
    "name": "digits",
    "task": "image",
    "sha256": "ab" * 32,
    "created": "2026-01-01T12:00:00+00:00",
    "reference": {"framework": "keras", "version": "3.8"},
    "dataset": {"name": "MNIST", "sha256": "cd" * 32},
    "evaluation": {
        "split": "test",
        "samples": 10000,
        "metrics": {"accuracy": 0.9912, "log_loss": 0.0301234},
        "per_class_recall": {"0": 0.99, "1": 0.97},
    },
    "calibration": {"expected_calibration_error": 0.00412, "bins": 15},
    "parity": [
        {**FLOAT32, "provider": "CPUExecutionProvider", "tolerance": 1e-5, "max_abs_error": 4.2e-7, "samples": 1000},
        {**FLOAT32, "provider": "CUDAExecutionProvider", "tolerance": 1e-4},
    ],
    "parameters": 93322,
    "recipe": "mnist-cnn",
    "picture": "colour=grey layout=nhwc size=2x3 fit=stretch",
    "seed": 42,
    "versions": {"keras": "3.8", "onnx": "1.17"},
}


@pytest.fixture(scope="session", autouse=True)
def _loaded() -> None:
    """Loads what commands load when they run, so that no test's time is that of imports."""
    for module in (
        "numpy.random",
        "pixelserve.bench.channels",
        "pixelserve.bench.measure",
        "pixelserve.client",
        "rich.progress",
        "rich.table",
    ):
        importlib.import_module(module)


def digits(**changes: object) -> pb.ModelVersion:
    """A server's metadata of a model of images of 2 × 3 grey pixels."""
    facts: dict[str, object] = {
        "name": "digits",
        "version": "1",
        "state": pb.ModelVersion.STATE_READY,
        "provider": "CPUExecutionProvider",
        "verified": True,
        "evidence": "verified: reproduced 8 golden samples",
        "card_json": json.dumps(CARD),
        "inputs": [pb.Tensor(name="image", datatype="UINT8", shape=[-1, 2, 3, 1])],
        "outputs": [pb.Tensor(name="probabilities", datatype="FP32", shape=[-1, 3], labels=["a", "b", "c"])],
        "max_batch_size": 64,
        "takes_images": True,
    }
    return pb.ModelVersion(**(facts | changes))  # type: ignore[arg-type]


@dataclass
class FakeServer(classifier_pb2_grpc.ClassifierServicer):
    """Gives configured answers, and keeps the requests."""

    versions: list[pb.ModelVersion] = field(default_factory=lambda: [digits()])
    health: dict[str, int] = field(default_factory=lambda: {"": 1})
    keeps: bool = True
    """Whether it remembers requests; off where they would fill the memory."""
    requests: list[object] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    fails: Callable[[int], grpc.StatusCode | None] = lambda number: None
    """The status that the nth request to classify or infer, from 0, fails with."""
    result: Callable[[pb.Image, int], pb.Result] = lambda image, top_k: result_for(image, top_k)
    """Its answer for an image."""
    asked: threading.Event = field(default_factory=threading.Event)
    """Set by the first request to classify or infer."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Where it is cleared, answers wait for it."""
    address: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def begin(self, request: object, context: grpc.ServicerContext) -> None:
        """What every request that load is made of goes through."""
        self.asked.set()
        if self.keeps:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
        self.gate.wait(WAIT_S)
        if code := self.fails(next(self.numbers)):
            context.abort(code, "as it was told")

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:  # noqa: N802
        """Finds in a picture the label that is its content; a picture that says broken is broken."""
        self.begin(request, context)
        answer = pb.ClassifyResponse(model=request.model, version=request.version or "1")
        for image in request.images:
            answer.results.append(self.result(image, request.top_k))
        return answer

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: N802
        """Lists the models, or those of a name."""
        return pb.ListModelsResponse(versions=[one for one in self.versions if request.name in ("", one.name)])

    def load(
        self, request: inference_pb2.RepositoryModelLoadRequest, context: grpc.ServicerContext
    ) -> inference_pb2.RepositoryModelLoadResponse:
        """Loads any model but one called broken."""
        self.requests.append(request)
        if request.model_name == "broken":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "broken/1/model.onnx: damaged")
        return inference_pb2.RepositoryModelLoadResponse()

    def unload(
        self, request: inference_pb2.RepositoryModelUnloadRequest, _: grpc.ServicerContext
    ) -> inference_pb2.RepositoryModelUnloadResponse:
        """Unloads any model."""
        self.requests.append(request)
        return inference_pb2.RepositoryModelUnloadResponse()

    def infer(self, request: inference_pb2.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        """Answers any request with an empty message."""
        self.begin(request, context)
        return b""

    def check(self, request: StringValue, context: grpc.ServicerContext) -> Int32Value:
        """Tells a service's health."""
        if request.value not in self.health:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Int32Value(value=self.health[request.value])


def result_for(image: pb.Image, top_k: int) -> pb.Result:
    """Returns a content's own text with three quarters, and a second class with the rest."""
    text = "raw" if image.WhichOneof("content") == "raw" else image.encoded.decode()
    if text == "broken":
        return pb.Result(error="this is not a picture")
    classes = [pb.Class(label=text, index=7, probability=0.75), pb.Class(label="other", index=1, probability=0.25)]
    return pb.Result(classes=classes[:top_k])


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that is up."""
    made = FakeServer()
    made.gate.set()
    server = grpc.server(futures.ThreadPoolExecutor(64))
    classifier_pb2_grpc.add_ClassifierServicer_to_server(made, server)
    infer = grpc.unary_unary_rpc_method_handler(made.infer, inference_pb2.ModelInferRequest.FromString)
    load = grpc.unary_unary_rpc_method_handler(
        made.load,
        inference_pb2.RepositoryModelLoadRequest.FromString,
        inference_pb2.RepositoryModelLoadResponse.SerializeToString,
    )
    unload = grpc.unary_unary_rpc_method_handler(
        made.unload,
        inference_pb2.RepositoryModelUnloadRequest.FromString,
        inference_pb2.RepositoryModelUnloadResponse.SerializeToString,
    )
    inference = {"ModelInfer": infer, "RepositoryModelLoad": load, "RepositoryModelUnload": unload}
    check = grpc.unary_unary_rpc_method_handler(made.check, StringValue.FromString, Int32Value.SerializeToString)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler("inference.GRPCInferenceService", inference),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        ]
    )
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    made.gate.set()
    server.stop(None).wait()


@dataclass(frozen=True)
class Ran:
    """A command's result."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the `pixelserve` command in this process: run("health", "--json")."""
    for name in ("ADDRESS", "TOKEN"):
        monkeypatch.delenv(f"PIXELSERVE_{name}", raising=False)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["pixelserve", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return Ran(code, out, err)

    return run


@pytest.fixture
def ask(run: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same, with the fake server's address."""
    monkeypatch.setenv("PIXELSERVE_ADDRESS", fake.address)
    return run


@pytest.fixture
def interrupt(fake: FakeServer) -> Callable[..., Ran]:
    """Runs the command as a process, and presses Ctrl-C once the server, which does not answer, was asked."""

    def interrupt(*arguments: object) -> Ran:
        fake.gate.clear()
        command = [sys.executable, "-m", "pixelserve", *map(str, arguments), "--address", fake.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert fake.asked.wait(WAIT_S)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=WAIT_S)
            finally:
                process.kill()
        return Ran(process.returncode, out, err)

    return interrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pictures at two depths, one of them broken, and of files that are no pictures."""
    made = tmp_path / "scans"
    (made / "b").mkdir(parents=True)
    for name, content in {"a.png": "4", "b/c.JPG": "2", "b/d.webp": "broken", "z.gif": "9", "notes.txt": "no"}.items():
        (made / name).write_text(content)
    return made


@pytest.fixture
def no_server() -> Iterator[str]:
    """A reserved address without a listener."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
