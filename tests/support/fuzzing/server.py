"""A whole server in this process, called without a network: thousands of inputs per second."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from onnx import TensorProto, helper, save_model

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server import app, port_factories
from pixelserve_server.api.call import Call
from pixelserve_server.api.status import CallStatus
from pixelserve_server.life import StartGate
from pixelserve_server.observe.logs import LogLevel
from pixelserve_server.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
ANSWER_S = 120
"""An input without an answer after this has hung the server; it is far more than any takes on a busy machine."""
_LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"
_REGISTER = "/inference.GRPCInferenceService/SystemSharedMemoryRegister"
_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


class RecordedLog:
    """Takes the server's log, and keeps what should not happen."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def error(self, event: str, **fields: Any) -> None:
        # A model that a request asked for and that cannot be loaded is logged as an error, and is none of the server.
        if "exc_info" in fields:
            self.failures.append(f"{event}: {fields['exc_info']!r}")

    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_fields: None


class _Port:
    """Stands for a network port: keeps what it would serve."""

    name = "none"
    served: Any = None

    def bind(self, host: str, port: int) -> str:
        return f"{host}:{port}"

    def start(self, served: Any) -> None:
        self.served = served

    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_kwargs: None


class FuzzedCall(Call):
    """A call that keeps its answer."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reply_bytes: bytes | None = None
        self.status: CallStatus | None = None
        self.answers = 0
        self._lock = threading.Lock()
        self._is_claimed = False
        self._ended = threading.Event()

    def on_cancel(self, callback: Any) -> None:
        pass

    def claim(self) -> bool:
        with self._lock:
            is_first, self._is_claimed = not self._is_claimed, True
        return is_first

    def send(self, message: bytes) -> None:
        self.reply_bytes = message
        self._end()

    def send_status(self, status: CallStatus) -> None:
        self.status = status
        self._end()

    def _end(self) -> None:
        self.answers += 1
        self._ended.set()

    def fault(self) -> str:
        """Waits for the answer; returns what is wrong with it, or nothing."""
        if not self._ended.wait(ANSWER_S):
            return f"no answer within {ANSWER_S} s"
        return fault_of(self.status)


def fault_of(status: CallStatus | None) -> str:
    """Returns what is wrong with a status; nothing: it is a result, or blames the sender or the moment."""
    is_fault = status is not None and status.code in _FAULTS
    return f"{status.code.name}: {status.message}" if status is not None and is_fault else ""


class InProcessServer:
    """The server: all methods are on, and models are loaded on demand."""

    def __init__(self, folder: Path) -> None:
        """Starts it on a repository that is written into `folder`."""
        write_repository(folder)
        self.log = RecordedLog()
        grpc_port, http_port = _Port(), _Port()
        port_factories.transport = lambda *_: grpc_port  # type: ignore[assignment]
        port_factories.http_port = lambda *_: http_port  # type: ignore[assignment]
        settings = Settings(
            model_repository=folder,
            metrics_port=0,
            device="cpu",
            model_control_mode="explicit",
            load_models="*",
            system_shared_memory=True,
            warmup_s=0,
            max_image_pixels=1_000_000,
            max_message_mib=16,
            access_log_per_s=0,
        )
        app.Application(settings, self.log, LogLevel("info")).start(StartGate())
        self.services: Any = grpc_port.served
        self.http: Any = http_port.served
        self.loop = asyncio.new_event_loop()
        self.register()

    def call(self, method: str, message: bytes) -> FuzzedCall:
        call = FuzzedCall()
        self.services.dispatcher.handle(method, message, call)
        return call

    def restore(self) -> None:
        """Loads all models as they are on the disk."""
        for name in ("doubler", "text", "mnist-cnn"):
            self.call(_LOAD, pb.RepositoryModelLoadRequest(model_name=name).SerializeToString()).fault()

    def register(self) -> None:
        """Registers the shared memory region that requests name."""
        asked = pb.SystemSharedMemoryRegisterRequest(name="region", key="/fuzz-region", byte_size=64)
        self.call(_REGISTER, asked.SerializeToString()).fault()

    def logged(self) -> str:
        """Returns, once, what the log has of failures."""
        failures, self.log.failures = self.log.failures, []
        return "; ".join(failures)


def write_repository(folder: Path) -> None:
    """Writes three models: `doubler` (numbers), `text` (strings) and the committed `mnist-cnn` (pictures)."""
    rows: list[str | int] = ["N", 4]
    _write(folder / "doubler", "Add", ["values", "values"], "doubled", TensorProto.FLOAT, rows)
    _write(folder / "text", "Identity", ["text"], "said", TensorProto.STRING, ["N", 1])
    shutil.copytree(ROOT / "models" / "mnist-cnn", folder / "mnist-cnn", dirs_exist_ok=True)


def write_zeros(folder: Path) -> None:
    """Writes a model that answers with as many zeros as it is asked for: large answers to small requests."""
    (folder / "1").mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["x"], ["y"])],
        "zeros",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["size"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_model(model, folder / "1" / "model.onnx")


def _write(folder: Path, operator: str, inputs: list[str], output: str, kind: int, shape: list[str | int]) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output])],
        folder.name,
        [helper.make_tensor_value_info(inputs[0], kind, shape)],
        [helper.make_tensor_value_info(output, kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_model(model, folder / "1" / "model.onnx")


def infer_requests() -> Iterator[pb.ModelInferRequest]:
    """Yields good requests: raw and typed tensors, strings, pixels, classification, shared memory."""
    values = np.arange(8, dtype=np.float32)
    raw = pb.ModelInferRequest(model_name="doubler", id="42", raw_input_contents=[values.tobytes()])
    raw.inputs.add(name="values", datatype="FP32", shape=[2, 4])
    yield raw
    typed = pb.ModelInferRequest(model_name="doubler", model_version="1")
    typed.inputs.add(name="values", datatype="FP32", shape=[2, 4]).contents.fp32_contents.extend(values.tolist())
    typed.outputs.add(name="doubled").parameters["classification"].int64_param = 2
    typed.parameters["priority"].uint64_param = 1
    typed.parameters["timeout"].int64_param = 1_000_000
    yield typed
    text = pb.ModelInferRequest(model_name="text")
    text.inputs.add(name="text", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"a", b"\xff\0"])
    yield text
    packed = pb.ModelInferRequest(model_name="text", raw_input_contents=[b"\1\0\0\0a\2\0\0\0bc"])
    packed.inputs.add(name="text", datatype="BYTES", shape=[2, 1])
    yield packed
    pixels = pb.ModelInferRequest(model_name="mnist-cnn", raw_input_contents=[bytes(784)])
    pixels.inputs.add(name="image", datatype="UINT8", shape=[1, 28, 28, 1])
    pixels.outputs.add(name="probabilities")
    yield pixels
    shared = pb.ModelInferRequest(model_name="doubler")
    for tensor in (shared.inputs.add(name="values", datatype="FP32", shape=[2, 4]), shared.outputs.add(name="doubled")):
        tensor.parameters["shared_memory_region"].string_param = "region"
        tensor.parameters["shared_memory_byte_size"].int64_param = 32
        tensor.parameters["shared_memory_offset"].int64_param = 8
    yield shared
