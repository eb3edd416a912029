"""Opens models with ONNX Runtime: on the CPU, or with a list of execution providers."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve.onnx_runtime import ort
from pixelserve.too_new import too_new

from ...errors import RepositoryError, StartupError
from ..locales import missing_locale
from ..memory import trim
from ..tensors import BY_ONNX, FREE, Array, TensorSpec
from .base import SessionOptions

CPU = "CPUExecutionProvider"

_BFLOAT16 = "tensor(bfloat16)"
_STRING = "tensor(string)"
# ONNX's number for bfloat16 (TensorProto.DataType).
_BFLOAT16_NUMBER = 16
# ONNX Runtime's log level for lines that no exception repeats.
_FATAL = 4
# Prefixes of its session configuration keys; a provider's own options start with the provider's key.
_GROUPS = ("session.", "optimization.", "mlas.", "ep.")
# Idle threads would otherwise spin and use cores that the network may need.
_DEFAULTS = {"session.intra_op.allow_spinning": "0"}

Providers = list[tuple[str, dict[str, str]]]
"""Execution providers in order of preference, each with its options."""


def runtime_version() -> str:
    """Returns ONNX Runtime's version."""
    return str(ort.__version__)


def is_available(provider: str) -> bool:
    """Returns whether this ONNX Runtime contains an execution provider."""
    return provider in ort.get_available_providers()


class OnnxRuntime:
    """A model opened by ONNX Runtime. On the CPU several threads may run it at once."""

    graphs = 0
    precisions = ("float32",)

    def __init__(self, model: Path, options: SessionOptions, threads: int, providers: Providers | None = None) -> None:
        """Opens a model with providers, or only on the CPU; raises as `Provider.open`."""
        providers = [*(providers or []), (CPU, {})]
        self._session = _load(model, _session_options(options, threads), providers)
        # Otherwise a failed run on the GPU would silently move the session to the CPU.
        self._session.disable_fallback()
        # On the CPU, what the session's `run` calls after checks that the codec makes too: 1.7 µs less of 36.
        self._run = (self._session if providers[1:] else getattr(self._session, "_sess", self._session)).run
        self.provider: str = self._session.get_providers()[0]
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        _check_names(model, (*inputs, *outputs))
        self._names = [node.name for node in outputs]
        self._kinds = {node.name: node.type for node in inputs}
        self._has_bfloat16 = any(node.type == _BFLOAT16 for node in (*inputs, *outputs))
        if self._has_bfloat16 and _STRING in self._kinds.values():
            raise RepositoryError(
                f"{model}: its inputs hold strings beside bfloat16 tensors; export it with float ones"
            )
        self.inputs = tuple(_spec(model, node) for node in inputs)
        self.outputs = tuple(_spec(model, node) for node in outputs)

    def run(self, inputs: Mapping[str, Array], options: Any = None) -> dict[str, Array]:
        """Computes all outputs by name; `options` come from `run_options`."""
        if self._has_bfloat16:
            return self._run_values(inputs, options)
        return dict(zip(self._names, self._run(self._names, inputs, options), strict=True))

    def _run_values(self, inputs: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Like `run`, with ONNX Runtime's own tensors, for types that NumPy lacks."""
        values = {name: _to_value(array, self._kinds[name]) for name, array in inputs.items()}
        results = self._session.run_with_ort_values(self._names, values, options)
        return {name: _from_value(value) for name, value in zip(self._names, results, strict=True)}

    def run_options(self, entries: Mapping[str, str]) -> Any:
        """Returns the options of a run."""
        options = ort.RunOptions()
        for key, value in entries.items():
            options.add_run_config_entry(key, value)
        return options

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Does nothing: on the CPU, a new shape only allocates memory."""

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Shrinks the CPU's arena after a run; otherwise it keeps the peak of all batches."""
        self.run(inputs, self.run_options(shrink_config("cpu:0")))
        trim()


def session_config(options: SessionOptions) -> dict[str, str]:
    """Returns the entries of a session's configuration."""
    return _DEFAULTS | {key: value for key, value in options.config.items() if key.startswith(_GROUPS)}


def shrink_config(device: str) -> dict[str, str]:
    """Returns the run option that makes a device's arena, such as `cpu:0`, release unused memory."""
    return {"memory.enable_memory_arena_shrinkage": device}


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, or its type if it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _session_options(options: SessionOptions, threads: int) -> Any:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    for key, value in session_config(options).items():
        chosen.add_session_config_entry(key, value)
    # Exceptions contain these errors too; a log line per bad request would let clients flood the log.
    chosen.log_severity_level = _FATAL
    return chosen


def _load(model: Path, options: Any, providers: Providers) -> Any:
    try:
        return _open_session(model, options, providers)
    except Exception as error:
        if "provider option" in str(error):
            raise StartupError(f"--session-option: ONNX Runtime refused it: {first_line(error)}") from error
        known = too_new(str(error)) or missing_locale(str(error))
        problem = f"ONNX Runtime {runtime_version()} cannot load it"
        if known is not None:
            raise RepositoryError(f"{problem}: {known}", path=model) from error
        remedy = "the file is damaged or made for a newer runtime: copy or export it again"
        raise RepositoryError(f"{problem} ({first_line(error)}); {remedy}", path=model) from error


def _open_session(model: Path, options: Any, providers: Providers) -> Any:
    try:
        # Its own fallback would use the CPU if an option is unknown, and report it only on stdout.
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except (ValueError, RuntimeError) as error:
        if providers[0][0] == CPU or "provider option" in str(error):
            raise
        try:
            return ort.InferenceSession(model, options, providers=[CPU])
        except Exception as on_cpu:
            raise on_cpu from error


def _check_names(model: Path, nodes: Sequence[Any]) -> None:
    try:
        for node in nodes:
            _ = node.name, node.shape
    except UnicodeDecodeError as error:
        problem = f"the name of a tensor or of a dimension is not UTF-8 ({error}); export it again with a plain one"
        raise RepositoryError(problem, path=model) from error


def _spec(model: Path, node: Any) -> TensorSpec:
    datatype = BY_ONNX.get(node.type)
    if datatype is None:
        problem = f"{node.name} is a {node.type}, which is not served; expected a dense tensor"
        zipmap = "; `pixelserve export` removes skl2onnx's ZipMap, which returns probabilities as dictionaries"
        raise RepositoryError(problem + (zipmap if "map(" in node.type else ""), path=model)
    # Free dimensions are a name or None, fixed ones a number.
    shape = tuple(dimension if isinstance(dimension, int) else FREE for dimension in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _to_value(array: Array, kind: str) -> Any:
    if kind != _BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BFLOAT16_NUMBER)


def _from_value(value: Any) -> Array:
    if value.data_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    if value.device_name() != "cpu":
        raise RuntimeError("a bfloat16 output is in GPU memory and cannot be copied from there")
    bits = np.empty(value.shape(), BY_ONNX[_BFLOAT16].dtype)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits
