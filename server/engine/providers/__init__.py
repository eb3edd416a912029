"""Execution providers. Each has one file and one line in `choice.PROVIDERS`."""

from .base import Executor, InUse, Provider, SessionOptions, UnusableError, choose_threads
from .choice import FLAGS, PROVIDERS, choose, provider_at, refuse_or_note, requires_gpu
from .installed import check_runtime
from .onnx_runtime import runtime_version

__all__ = [
    "FLAGS",
    "PROVIDERS",
    "Executor",
    "InUse",
    "Provider",
    "SessionOptions",
    "UnusableError",
    "check_runtime",
    "choose",
    "choose_threads",
    "provider_at",
    "refuse_or_note",
    "requires_gpu",
    "runtime_version",
]
