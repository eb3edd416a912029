"""ONNX Runtime on the CPU."""

from collections.abc import Callable
from pathlib import Path

from .base import Executor, Provider, SessionOptions
from .onnx_runtime import CPU, OnnxRuntime


class Cpu(Provider):
    """ONNX Runtime's default provider, included in all of its packages."""

    name = CPU
    key = "cpu"
    device = "cpu"
    title = "CPU"
    distribution = "onnxruntime"
    extra = "server"

    def is_available(self) -> bool:
        return True

    def open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
    ) -> Executor:
        return OnnxRuntime(model, options, threads)
