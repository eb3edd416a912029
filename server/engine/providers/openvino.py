"""OpenVINO on the CPU: an engine of its own, not the plug-in for ONNX Runtime.

Properties and their values: https://docs.openvino.ai/2026/openvino-workflow/running-inference.html.
"""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pixelserve.precisions import this_processor

from ...errors import MissingLibraryError, RepositoryError, StartupError
from ..memory import trim
from ..tensors import BY_ONNX, FREE, Array, TensorSpec
from .base import Executor, Provider, SessionOptions
from .onnx_runtime import first_line
from .requests import RequestPool, StaticBatch

_DISTRIBUTION = "openvino"
_DEVICE = "CPU"
_HINT = "INFERENCE_PRECISION_HINT"
# Its word for a precision, by ours.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_PRECISIONS = {hint: precision for precision, hint in _HINTS.items()}
# Its word for what the processor computes fast, by ours.
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
# Its element types by ONNX's names; text and bfloat16 tensors are not passed through its Python API.
_ONNX_TYPES = {"f16": "float16", "f32": "float", "f64": "double", "boolean": "bool"} | {
    f"{short}{bits}": f"{long}{bits}" for short, long in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
}


class OpenVino(Provider):
    """OpenVINO's CPU plug-in, on Intel's and AMD's processors."""

    name = "OpenVINO"
    key = "openvino"
    device = "cpu"
    engine = "openvino"
    title = "OpenVINO"
    distribution = _DISTRIBUTION
    extra = "openvino"
    # It generates kernels for each shape: 2 to 60 ms the first time, and a tenth of a millisecond whenever it changes.
    new_shapes_are_slow = True

    def is_available(self) -> bool:
        return importlib.util.find_spec(_DISTRIBUTION) is not None

    def precisions(self) -> tuple[str, ...]:
        if not self.is_available():
            return ()
        offered = set(_core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
        native = this_processor().precisions
        return tuple(each for each in native if each == "float32" or _CAPABILITIES[each] in offered)

    def open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
    ) -> Executor:
        return _OpenVinoExecutor(model, self.properties(options, threads), note)

    def properties(self, options: SessionOptions, threads: int) -> dict[str, Any]:
        """Returns the properties of a compiled model; entries of --session-option override ours."""
        ours: dict[str, Any] = {
            # Without it, OpenVINO would compute in bfloat16 wherever the processor can.
            _HINT: _HINTS.get(options.engine.precision, "f32"),
            "INFERENCE_NUM_THREADS": threads,
            # A run is computed by the thread that asks for it; the batcher has the parallelism.
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned threads would fight with the transport's for the same core.
            "ENABLE_CPU_PINNING": False,
        }
        return ours | self.own_options(options)


def openvino_version() -> str:
    """Returns OpenVINO's version; empty if it is not installed."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def _core() -> Any:
    try:
        # Imported only if used: it takes 0.2 s and 60 MiB.
        from pixelserve.openvino_runtime import ov
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"--engine openvino needs {error.name}; in PixelServe's clone run: pip install -e '.[openvino]'"
        ) from error
    return ov.Core()


class _OpenVinoExecutor:
    """A model compiled by OpenVINO. Several threads may run it at once."""

    provider = OpenVino.name
    graphs = 0

    def __init__(self, model: Path, properties: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._model = model
        self._properties = properties
        self._note = note
        self._graph = self._read()
        self.inputs = tuple(_spec(model, port) for port in self._graph.inputs)
        self.outputs = tuple(_spec(model, port, is_output=True) for port in self._graph.outputs)
        self._names = tuple(spec.name for spec in self.outputs)
        self._input_names = tuple(spec.name for spec in self.inputs)
        compiled = self._compile(self._graph)
        self._any_shape = RequestPool(compiled, self._names)
        self.precisions = (_PRECISIONS[compiled.get_property(_HINT).to_string()],)
        self._static: dict[tuple[tuple[int, ...], ...], StaticBatch] = {}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs from inputs, both by name, in arrays that later runs do not change."""
        static = self._static.get(self._shapes(inputs)) if self._static else None
        return static.run(inputs) if static is not None else self._any_shape.run(inputs)

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Compiles the model for batches of `rows` rows: static shapes save a tenth to a fifth of a run."""
        shapes = self._shapes(inputs)
        if shapes in self._static or not rows:
            return
        graph = self._graph.clone()
        try:
            graph.reshape({name: list(shape) for name, shape in zip(self._input_names, shapes, strict=True)})
            if any(port.partial_shape.is_dynamic for port in graph.outputs):
                return
            self._static[shapes] = StaticBatch(self._compile(graph), self._input_names, self._names)
        except (RuntimeError, RepositoryError) as error:
            self._note(f"OpenVINO does not compile batches of {rows} rows ahead: {first_line(error)}")

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Returns to the system what compiling needed."""
        trim()

    def _shapes(self, inputs: Mapping[str, Array]) -> tuple[tuple[int, ...], ...]:
        return tuple([inputs[name].shape for name in self._input_names])

    def _read(self) -> Any:
        try:
            return _core().read_model(self._model)
        except RuntimeError as error:
            raise self._refused(error) from error

    def _compile(self, graph: Any) -> Any:
        try:
            return _core().compile_model(graph, _DEVICE, dict(self._properties))
        except RuntimeError as error:
            if "Unsupported property" in str(error) or "property" in first_line(error).lower():
                raise StartupError(f"--session-option: OpenVINO refused it: {_reason(error)}") from error
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> RepositoryError:
        problem = f"OpenVINO {openvino_version()} cannot load it ({_reason(error)}); use --engine onnxruntime"
        return RepositoryError(problem, path=self._model)


def _reason(error: Exception) -> str:
    """Returns the last line of OpenVINO's error, which says what is wrong; the first ones name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _spec(model: Path, port: Any, *, is_output: bool = False) -> TensorSpec:
    name = _name(port, is_output=is_output)
    kind = port.element_type.get_type_name()
    if kind not in _ONNX_TYPES:
        problem = f"OpenVINO does not pass tensors of type {kind}, as {name} is; use --engine onnxruntime"
        raise RepositoryError(problem, path=model)
    if port.partial_shape.rank.is_dynamic:
        problem = f"OpenVINO cannot tell how many dimensions {name} has; use --engine onnxruntime"
        raise RepositoryError(problem, path=model)
    shape = tuple(FREE if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return TensorSpec(name, BY_ONNX[f"tensor({_ONNX_TYPES[kind]})"], shape)


def _name(port: Any, *, is_output: bool) -> str:
    """Returns a tensor's name in the ONNX graph: a merged tensor has several, and its result node says which it is."""
    names: set[str] = port.get_names()
    own = port.get_node().get_friendly_name()
    if is_output:
        own = own.rsplit("/sink_port_", 1)[0]
    return own if own in names or not names else min(names)
