"""ONNX Runtime alone in this process: images/s by batch size, between arrays in host memory."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INSTALL = (
    "remove the one for CPUs with `.venv/bin/python -m pip uninstall -y onnxruntime`, then take "
    "`.venv/bin/python -m pip install 'onnxruntime-gpu[cuda,cudnn]'`"
)


class NoGpuError(Exception):
    """This machine cannot measure a GPU; the message says why and what to do, in one sentence."""


@dataclass(frozen=True)
class Machine:
    """The measured machine."""

    card: str
    """The card's name from nvidia-smi, or CPU."""
    driver: str
    """The NVIDIA driver's version; empty on a CPU."""
    runtime: str
    """ONNX Runtime's version."""


def find_machine(provider: str) -> Machine:
    """Returns the machine to measure.

    Raises:
        NoGpuError: CUDA is requested but not available.
    """
    try:
        from pixelserve.onnx_runtime import ort
    except ImportError:
        raise NoGpuError(f"make bench-gpu needs onnxruntime-gpu, and there is no ONNX Runtime: {INSTALL}") from None
    if provider == "cpu":
        return Machine("CPU", "", ort.__version__)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise NoGpuError(
            f"make bench-gpu measures a GPU, and ONNX Runtime {ort.__version__} here has no CUDA provider: {INSTALL}"
        )
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoGpuError(f"make bench-gpu measures a GPU, and nvidia-smi finds none here ({error})") from None
    card, driver = (part.strip() for part in said.strip().splitlines()[0].rsplit(",", 1))
    return Machine(card, driver, ort.__version__)


def plain_runner(model: Path, provider: str) -> Callable[[Mapping[str, Any]], object]:
    """Returns ONNX Runtime's `run`, with the server's default options.

    Including threads: by default, ONNX Runtime's threads spin, which slows it down on a busy machine and would favour
    the server.
    """
    from pixelserve.onnx_runtime import ort
    from pixelserve_server.engine.cores import usable_cores

    providers: list[Any] = ["CPUExecutionProvider"]
    if provider == "cuda":
        ort.preload_dlls()
        chosen = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
        providers.insert(0, ("CUDAExecutionProvider", chosen))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=providers)
    if provider == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        sys.exit("ONNX Runtime took the CPU, because no CUDA library answers; check the installation")
    return lambda inputs: session.run(None, inputs)


def graph_runner(model: Path, provider: str, sizes: list[int]) -> tuple[Callable[[Mapping[str, Any]], object], str]:
    """Returns `run` of the server's session with CUDA graphs, and why it has no graphs, or empty."""
    from pixelserve_server.engine.providers import SessionOptions
    from pixelserve_server.engine.session import Session

    session = Session(model, SessionOptions(device=provider, flags={"cuda_graphs": True}))
    for rows in sizes:
        session.warm(rows, made_up_inputs(model, rows))
    missing = "" if session.in_use.graphs == len(sizes) else " ".join(session.notes) or "not every size was captured"
    return session.run, missing


def made_up_inputs(model: Path, rows: int) -> dict[str, Any]:
    """Returns random inputs for a batch."""
    from pixelserve.onnx_runtime import ort

    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for node in ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs():
        shape = (rows, *node.shape[1:])
        is_pixels = node.type == "tensor(uint8)"
        inputs[node.name] = (
            rng.integers(0, 256, shape, dtype=np.uint8) if is_pixels else rng.random(shape, dtype=np.float32)
        )
    return inputs


def measure_rate(run: Callable[[Mapping[str, Any]], object], inputs: Mapping[str, Any], seconds: float) -> float:
    """Returns rows per second of sequential runs, after a warm-up of a tenth of the time."""
    rows = len(next(iter(inputs.values())))
    for time_s in (seconds / 10, seconds):
        runs, start_s = 0, time.perf_counter()
        while (took_s := time.perf_counter() - start_s) < time_s or not runs:
            run(inputs)
            runs += 1
    return runs * rows / took_s
