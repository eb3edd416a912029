"""What is asked of a session, and what that is in ONNX Runtime's words: plain values, decided in one place.

The names and values are those of ONNX Runtime's CUDA execution provider
(https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html) and of its header
onnxruntime_run_options_config_keys.h.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

NO_GRAPH = -1
"""The graph's number that makes a run neither capture nor replay one. ONNX Runtime's own default would capture."""

CUDA_PREFIX = "cuda."
"""What the key of an option of the CUDA provider begins with; any other is of the session's configuration."""

# Our defaults, which --session-option overrides. The arena grows by what batches need. cuDNN chooses convolutions by
# rule, since measuring all of them takes long at the first run of each size. TF32 keeps 10 bits of the mantissa, which
# golden samples refuse.
_CUDA_DEFAULTS = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
# Threads that wait for work would burn their core meanwhile, which the network may need.
_SESSION_DEFAULTS = {"session.intra_op.allow_spinning": "0"}

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class CudaOptions:
    """How a session uses its GPU."""

    arena_shrink: bool = False
    """Whether the arena gives back what it does not use after a run of a shape that nobody announced."""
    graphs: bool = False
    """Whether announced batches are captured as CUDA graphs, which are launched at once instead of node by node."""


@dataclass(frozen=True)
class SessionOptions:
    """Where and how a model computes."""

    device: Device = "auto"
    """Where: auto takes CUDA where this ONNX Runtime has it and a GPU answers."""
    device_id: int = 0
    """CUDA's number of the GPU."""
    require_gpu: bool = False
    """Whether computing on the CPU is an error."""
    intra_op_threads: int = 0
    """Threads that compute one run; 0: this session's share of the usable cores."""
    instances: int = 1
    """Sessions that share the usable cores."""
    cuda: CudaOptions = field(default_factory=CudaOptions)
    """How it uses its GPU."""
    config: Mapping[str, str] = field(default_factory=dict)
    """More by ONNX Runtime's own names: entries of the session's configuration and, behind CUDA_PREFIX, options of the
    CUDA provider. They win over ours."""


@dataclass(frozen=True)
class InUse:
    """What a session really uses, which may be less than was asked for."""

    provider: str
    """ONNX Runtime's name of the execution provider that comes first."""
    device_id: int | None
    """CUDA's number of the GPU; None on the CPU."""
    threads: int
    """Threads that compute one run, or on a GPU the part of it that the CPU computes."""
    graphs: int
    """Batch sizes that the asking thread replays as CUDA graphs."""
    notes: tuple[str, ...]
    """What was asked for and is not used, and why: sentences for the log."""


def choose_threads(options: SessionOptions, usable_cores: int) -> int:
    """Returns how many threads compute one run of a session, at least 1."""
    return options.intra_op_threads or max(1, usable_cores // options.instances)


def provider_list(
    options: SessionOptions, available: Container[str], *, graphs: bool
) -> list[tuple[str, dict[str, str]]]:
    """Returns the execution providers to try, first choice first, each with its options.

    Args:
        options: what is asked.
        available: names of the providers that this ONNX Runtime has.
        graphs: whether runs may capture CUDA graphs.
    """
    cpu: tuple[str, dict[str, str]] = (CPU, {})
    if options.device == "cpu" or CUDA not in available:
        return [cpu]
    asked = {key.removeprefix(CUDA_PREFIX): value for key, value in options.config.items() if _is_cudas(key)}
    where = {"device_id": str(options.device_id), "enable_cuda_graph": _flag(graphs)}
    return [(CUDA, _CUDA_DEFAULTS | asked | where), cpu]


def session_config(options: SessionOptions) -> dict[str, str]:
    """Returns the entries of a session's configuration."""
    return _SESSION_DEFAULTS | {key: value for key, value in options.config.items() if not _is_cudas(key)}


def _is_cudas(key: str) -> bool:
    return key.startswith(CUDA_PREFIX)


def run_config(options: SessionOptions, *, graphs: bool, graph: int = NO_GRAPH, shrink: bool = False) -> dict[str, str]:
    """Returns the entries of one run's configuration on CUDA.

    Args:
        options: what is asked.
        graphs: whether the session may capture graphs; one that may needs to be told at every run which one.
        graph: the number of the graph to capture or replay.
        shrink: whether the arena gives back afterwards what it does not use.
    """
    entries = {"gpu_graph_id": str(graph)} if graphs else {}
    if shrink:
        entries |= shrink_config(f"gpu:{options.device_id}")
    return entries


def shrink_config(device: str) -> dict[str, str]:
    """Returns the entry of a run after which the arena of a device, such as `cpu:0`, gives back unused memory."""
    return {"memory.enable_memory_arena_shrinkage": device}


def _flag(value: bool) -> str:
    return "1" if value else "0"
