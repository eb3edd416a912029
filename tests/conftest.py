"""Shared fixtures: tiny ONNX models, repositories of them, and real server processes."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import onnx
import pytest
from onnx import TensorProto, helper

from pixelserve.oip import inference_pb2_grpc
from pixelserve.onnx_runtime import ort

if TYPE_CHECKING:
    from certificates import CertificateAuthority

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60


Signature = dict[str, tuple[str, list[int | str]]]
"""Tensors by name: ONNX's name of the element type, and the shape, where a free dimension has a name."""


def write_graph(
    path: Path, inputs: Signature, outputs: Signature, *nodes: tuple[str, str, str], **attributes: object
) -> Path:
    """Writes a model: each node is an operator, its inputs and its outputs; `attributes` are the last node's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last = len(nodes) - 1
    graph = helper.make_graph(
        [
            helper.make_node(operator, taken.split(), given.split(), **(attributes if index == last else {}))
            for index, (operator, taken, given) in enumerate(nodes)
        ],
        path.parent.parent.name,
        *(
            [
                helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), shape)
                for name, (kind, shape) in tensors.items()
            ]
            for tensors in (inputs, outputs)
        ),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_model(path: Path, *, rows: int | str = "N", width: int = 4, output: str = "doubled") -> Path:
    """Writes a model that doubles float32 rows: `values` [rows, width] -> `doubled` [rows, width]."""
    tensor = ("FLOAT", [rows, width])
    return write_graph(path, {"values": tensor}, {output: tensor}, ("Add", "values values", output))


@functools.cache
def _why_no_gpu() -> str:
    """Returns why tests cannot use a GPU; empty where they can."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime has no CUDA provider"
    listing = shutil.which("nvidia-smi")
    if listing is None or subprocess.run([listing, "-L"], capture_output=True, timeout=60).returncode:
        return "no GPU answers nvidia-smi"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked `gpu` without a GPU."""
    if item.get_closest_marker("gpu") and (reason := _why_no_gpu()):
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _processes_of_tests_can_be_interrupted() -> None:
    """Restores SIGINT, which shells ignore for background jobs and child processes would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model_writer() -> Callable[..., Path]:
    """`write_model`, for tests in other folders."""
    return write_model


@pytest.fixture(scope="session")
def graph_writer() -> Callable[..., Path]:
    """`write_graph`, for tests in other folders."""
    return write_graph


@pytest.fixture
def doubler_repository(tmp_path: Path) -> Path:
    """A repository with one model, `doubler`, without config.pbtxt and without a card."""
    write_model(tmp_path / "repository" / "doubler" / "1" / "model.onnx")
    return tmp_path / "repository"


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@dataclass
class ServerProcess:
    """A `pixelserve serve` process that is serving."""

    process: subprocess.Popen[str]
    fields: dict[str, str]
    """Fields of its start-up line."""
    lines: list[str] = field(default_factory=list)
    """Its stderr so far, or all of it after `stop`."""
    reader: threading.Thread | None = None
    """Reads its stderr."""

    @property
    def grpc(self) -> str:
        return self.fields["grpc"]

    @property
    def http(self) -> str:
        return self.fields["http"]

    @property
    def metrics(self) -> str:
        return self.fields["metrics"]

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def pending(self) -> int:
        """How many requests wait in the server's only queue."""
        with urllib.request.urlopen(self.metrics, timeout=STOP_TIMEOUT_S) as page:
            lines = page.read().decode().splitlines()
        (line,) = [line for line in lines if line.startswith("nv_inference_pending_request_count{")]
        return int(float(line.split()[-1]))

    def stub(self) -> inference_pb2_grpc.GRPCInferenceServiceStub:
        """A stub on a separate channel, closed with the process."""
        self._channel = grpc.insecure_channel(self.grpc)
        return inference_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signals the process and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        if self.reader is not None:
            self.reader.join(STOP_TIMEOUT_S)
        if channel := getattr(self, "_channel", None):
            channel.close()
        return code


def _start(repository: Path, *args: str, env: dict[str, str] | None = None) -> ServerProcess:
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(repository)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    server = ServerProcess(process, {})
    started = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.lines.append(line)
            if '"event": "serving"' in line:
                server.fields = json.loads(line)
                started.set()
        process.stderr.close()
        started.set()

    server.reader = threading.Thread(target=read, daemon=True)
    server.reader.start()
    if not started.wait(START_TIMEOUT_S) or not server.fields:
        process.kill()
        process.wait()
        pytest.fail("the server did not start; it said:\n" + "".join(server.lines))
    return server


@pytest.fixture(scope="session")
def new_certificate_authority(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., CertificateAuthority]":
    """Makes certificate authorities: takes what `CertificateAuthority` takes after its folder."""
    # Imported where it is used: most tests need no certificates, and it takes a moment.
    from certificates import CertificateAuthority

    return lambda *args, **kwargs: CertificateAuthority(tmp_path_factory.mktemp("ca"), *args, **kwargs)


@pytest.fixture(scope="session")
def certificate_authority(new_certificate_authority: "Callable[..., CertificateAuthority]") -> "CertificateAuthority":
    """The certificate authority that servers and clients of the tests share: `path` is its certificate, and
    `issue(name)` writes a pair for either."""
    return new_certificate_authority()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the choice of a transport, and of tests that need all cores."""
    parser.addoption(
        "--transport", default="auto", help="what the servers of the tests take as --transport; auto, the default"
    )
    parser.addoption(
        "--alone", choices=["too", "not", "only"], default="too", help="what to do with tests that need all cores"
    )


@pytest.hookimpl(tryfirst=True)  # Before others look at the markers.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what starts a server of its own as slow, keeps together in one process what shares servers, and leaves out
    the tests that `--alone` does not name."""
    for item in items:
        if {"start_server", "failing_serve"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        folder = item.path.parent.name
        # The contract of the transports shares six servers over all of its modules; other modules have their own.
        item.add_marker(pytest.mark.xdist_group(folder if folder == "transports" else str(item.path)))
    wanted = config.getoption("--alone")
    if wanted == "too":
        return
    left_out = [item for item in items if (item.get_closest_marker("alone") is None) == (wanted == "only")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    """What servers take as --transport; tests/integration/transports/ runs over each."""
    return str(request.config.getoption("--transport"))


@contextmanager
def _server_processes(transport: str) -> Iterator[Callable[..., ServerProcess]]:
    servers: list[ServerProcess] = []

    def start(repository: Path, *args: str, env: dict[str, str] | None = None) -> ServerProcess:
        servers.append(_start(repository, "--transport", transport, *args, env=env))
        return servers[-1]

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture
def start_server(transport: str) -> Iterator[Callable[..., ServerProcess]]:
    """Starts server processes on free ports, with any further arguments, and ends them after the test."""
    with _server_processes(transport) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_server(transport: str) -> Iterator[Callable[..., ServerProcess]]:
    """The same, for servers that the tests of a module share."""
    with _server_processes(transport) as start:
        yield start


@pytest.fixture(scope="session")
def start_session_server(transport: str) -> Iterator[Callable[..., ServerProcess]]:
    """The same, for servers that the tests of several modules share."""
    with _server_processes(transport) as start:
        yield start


@pytest.fixture(scope="session")
def server(transport: str) -> Iterator[ServerProcess]:
    """One server on the committed models, shared by the tests that only talk to it."""
    process = _start(ROOT / "models", "--transport", transport)
    yield process
    assert process.stop() == 0


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits until a condition holds, and fails where it does not within the time."""

    def wait(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "it did not come to be in time"
            time.sleep(0.01)

    return wait


@dataclass
class Failure:
    """How a command ended that was to fail."""

    code: int
    message: str


@pytest.fixture
def failing_serve() -> Callable[..., Failure]:
    """Runs `pixelserve serve` with arguments that must make it fail; checks that no traceback shows."""

    def run(*args: str, env: dict[str, str] | None = None) -> Failure:
        command = [sys.executable, "-m", "pixelserve", "serve"]
        command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", *args]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_TIMEOUT_S, env={**os.environ, **(env or {})}
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Failure(done.returncode, done.stderr.strip().splitlines()[-1])

    return run
