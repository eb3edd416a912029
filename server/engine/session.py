"""One loaded ONNX model. The only module that imports onnxruntime."""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ..errors import RepositoryError, StartupError
from .tensors import BY_ONNX, FREE, Array, TensorSpec

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# TF32 keeps 10 bits of the mantissa, which the golden samples' tolerance would not forgive.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def check_runtime(device: str) -> None:
    """Checks that ONNX Runtime is installed once and can serve `device` (auto, cpu or cuda).

    Raises:
        StartupError: both packages are installed, or CUDA is asked for and this ONNX Runtime has none.
    """
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) > 1:
        raise StartupError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "remove both with: pip uninstall -y onnxruntime onnxruntime-gpu, "
            "then install one: pip install 'pixelserve[server]' or 'pixelserve[server-cuda]'"
        )
    if device == "cuda" and CUDA not in ort.get_available_providers():
        raise StartupError(
            "--device cuda: this ONNX Runtime has no CUDA provider; "
            "pip uninstall -y onnxruntime, then pip install 'pixelserve[server-cuda]', or take --device auto"
        )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def runtime_version() -> str:
    """Returns ONNX Runtime's version."""
    return str(ort.__version__)


class Session:
    """A model that computes. `run` may be called from any thread, from several at once, and releases the GIL."""

    def __init__(self, model: Path, *, device: str, intra_op_threads: int) -> None:
        """Loads a model.

        Args:
            model: the ONNX file.
            device: auto, cpu or cuda.
            intra_op_threads: threads that compute one run; 0: as many as this process may use cores.

        Raises:
            RepositoryError: the file is missing, damaged, or uses something that this ONNX Runtime has not.
            StartupError: CUDA is asked for and no GPU answers.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra_op_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # A spinning thread burns the core that the network needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = _open(model, options, _providers(device))
        self.provider: str = self._session.get_providers()[0]
        if device == "cuda" and self.provider != CUDA:
            raise StartupError(
                f"--device cuda: {model} was loaded on {self.provider}, because no GPU or no CUDA library answers; "
                f"check nvidia-smi, or take --device auto"
            )
        self.inputs = tuple(_spec(model, node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(model, node) for node in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs, by name, of input tensors, by name."""
        return dict(zip(self._output_names, self._session.run(self._output_names, inputs), strict=True))


def _providers(device: str) -> list[Any]:
    if device == "cpu" or CUDA not in ort.get_available_providers():
        return [CPU]
    if hasattr(ort, "preload_dlls"):
        # Finds the CUDA and cuDNN libraries of the nvidia-* wheels, which no loader path leads to.
        ort.preload_dlls()
    return [(CUDA, _CUDA_OPTIONS), CPU]


def _open(model: Path, options: Any, providers: list[Any]) -> Any:
    if not model.is_file():
        raise RepositoryError(f"{model}: no such file; a version folder must hold the model")
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise RepositoryError(
            f"{model}: ONNX Runtime {runtime_version()} cannot load it ({_first_line(error)}); "
            f"the file is damaged or made for a newer runtime: copy or export it again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _spec(model: Path, node: Any) -> TensorSpec:
    datatype = BY_ONNX.get(node.type)
    if datatype is None:
        raise RepositoryError(f"{model}: {node.name} is a {node.type}, which is not served; expected a dense tensor")
    # A free dimension has a name or None where a fixed one has a number.
    shape = tuple(dimension if isinstance(dimension, int) else FREE for dimension in node.shape)
    return TensorSpec(node.name, datatype, shape)
