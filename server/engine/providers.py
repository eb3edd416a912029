"""What is asked of a session, and what that is in ONNX Runtime's words: plain values, decided in one place.

The names and values are those of ONNX Runtime's CUDA execution provider
(https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html) and of its header
onnxruntime_run_options_config_keys.h.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

NO_GRAPH = -1
"""The graph's number that makes a run neither capture nor replay one. ONNX Runtime's own default would capture."""

_MIB = 1024 * 1024
_ARENAS = {"power_of_two": "kNextPowerOfTwo", "same_as_requested": "kSameAsRequested"}

Device = Literal["auto", "cpu", "cuda"]
Arena = Literal["power_of_two", "same_as_requested"]
CudnnAlgorithms = Literal["heuristic", "exhaustive", "default"]


@dataclass(frozen=True)
class CudaOptions:
    """How a session uses its GPU."""

    memory_limit_mib: int = 0
    """MiB that the session's arena may hold; 0: no limit. CUDA, cuDNN and the batches announced take some besides."""
    arena: Arena = "same_as_requested"
    """How the arena grows: by what is asked for, or by powers of two, which asks the driver less often."""
    arena_shrink: bool = False
    """Whether the arena gives back what it does not use after a run of a shape that nobody announced."""
    cudnn_algorithms: CudnnAlgorithms = "heuristic"
    """How cuDNN's convolutions are chosen: by rule, by measuring all of them at the first run, or cuDNN's default."""
    graphs: bool = False
    """Whether announced batches are captured as CUDA graphs, which are launched at once instead of node by node."""
    tf32: bool = False
    """Whether matrix products may round to TF32's 10 bits of mantissa, which most golden samples do not forgive."""


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
    spinning: bool = False
    """Whether threads that wait for work burn their core meanwhile, which the network may need."""
    cuda: CudaOptions = field(default_factory=CudaOptions)
    """How it uses its GPU."""


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
    cuda = options.cuda
    chosen = {
        "device_id": str(options.device_id),
        "arena_extend_strategy": _ARENAS[cuda.arena],
        "cudnn_conv_algo_search": cuda.cudnn_algorithms.upper(),
        "use_tf32": _flag(cuda.tf32),
        "enable_cuda_graph": _flag(graphs),
    }
    if cuda.memory_limit_mib:
        chosen["gpu_mem_limit"] = str(cuda.memory_limit_mib * _MIB)
    return [(CUDA, chosen), cpu]


def session_config(options: SessionOptions) -> dict[str, str]:
    """Returns the entries of a session's configuration."""
    return {"session.intra_op.allow_spinning": _flag(options.spinning)}


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
