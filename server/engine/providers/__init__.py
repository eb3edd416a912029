"""Execution providers. Each has one file and one line in `choice.PROVIDERS`."""

from .base import (
    DEFAULT_ENGINES,
    EngineChoice,
    Executor,
    InUse,
    Provider,
    SessionOptions,
    UnusableError,
    choose_threads,
)
from .choice import FLAGS, PROVIDERS, choose, open_model, provider_at, refuse_or_note, requires_gpu
from .installed import check_runtime
from .onnx_runtime import runtime_version
from .openvino import openvino_version

__all__ = [
    "DEFAULT_ENGINES",
    "FLAGS",
    "PROVIDERS",
    "EngineChoice",
    "Executor",
    "InUse",
    "Provider",
    "SessionOptions",
    "UnusableError",
    "check_runtime",
    "choose",
    "choose_threads",
    "open_model",
    "openvino_version",
    "provider_at",
    "refuse_or_note",
    "requires_gpu",
    "runtime_version",
]
