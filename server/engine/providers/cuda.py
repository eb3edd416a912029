"""ONNX Runtime's CUDA execution provider.

Names and values of its options:
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pixelserve.onnx_runtime import ort

from ...errors import RepositoryError
from ..tensors import Array
from .base import Executor, Provider, SessionOptions, UnusableError
from .binding import BoundBatch, Buffer, is_view, why_unbindable
from .gate import CaptureGate
from .gpu import CaptureError, GpuRuns
from .onnx_runtime import OnnxRuntime, first_line, is_available

_NAME = "CUDAExecutionProvider"
# Our defaults, which --session-option overrides. The arena grows by the requested sizes. cuDNN chooses convolutions by
# heuristic, because benchmarking them makes the first run of each size slow. TF32 keeps 10 bits of the mantissa, too
# few for golden samples.
_DEFAULTS = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
# One per process, because ONNX Runtime's capture mode is process-wide (cudaStreamCaptureModeGlobal): while one session
# captures, all others must wait, including those without graphs.
_GATE = CaptureGate()


class Cuda(Provider):
    """NVIDIA's GPUs."""

    name = _NAME
    key = "cuda"
    device = "cuda"
    title = "CUDA"
    distribution = "onnxruntime-gpu"
    extra = "server-cuda"
    on_gpu = True
    flags = ("cuda_arena_shrink", "cuda_graphs")
    fault_words = ("cuda", "cudnn", "cublas", "cufft")
    # TensorFloat-32 rounds to 10 bits, in an order that depends on the batch size.
    row_tolerance = 5e-3
    # It searches kernels for each shape.
    new_shapes_are_slow = True

    def is_available(self) -> bool:
        return is_available(_NAME)

    def open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
    ) -> Executor:
        if hasattr(ort, "preload_dlls"):
            # Loads the CUDA and cuDNN libraries of the nvidia-* wheels, which are not on the loader's path.
            ort.preload_dlls()
        with _beside_captures(options):
            runtime, graphs = self._open(model, options, threads, note, graphs=_has_graphs(options) and not plain)
        return _CudaExecutor(runtime, options, graphs=graphs, note=note) if runtime.provider == _NAME else runtime

    def _open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, graphs: bool
    ) -> tuple["_Runtime", bool]:
        """Opens the model; without graphs if ONNX Runtime refuses to capture it as a whole."""
        refused = "it would leave the GPU"
        if graphs:
            try:
                runtime = _Runtime(model, options, threads, self.provider_options(options, graphs=True))
                if runtime.provider == _NAME:
                    return runtime, True
            except RepositoryError as error:
                refused = first_line(error.__cause__ or error)
        runtime = _Runtime(model, options, threads, self.provider_options(options, graphs=False))
        if graphs and runtime.provider == _NAME:
            note(f"CUDA graphs are off: ONNX Runtime does not capture this model ({refused})")
        return runtime, False

    def provider_options(self, options: SessionOptions, *, graphs: bool) -> dict[str, str]:
        """Returns the provider's options; `graphs`: whether to enable captures."""
        where = {"device_id": str(options.device_id), "enable_cuda_graph": "1" if graphs else "0"}
        return _DEFAULTS | self.own_options(options) | where

    def may_run_on_arrival(self, options: SessionOptions) -> bool:
        # Only the thread that captured a graph can replay it.
        return not _has_graphs(options)

    def unused(self, options: SessionOptions) -> Iterator[str]:
        if _has_graphs(options):
            yield "CUDA graphs are off: the model is computed on the CPU"
        yield from super().unused(options)


def _has_graphs(options: SessionOptions) -> bool:
    return options.flags.get("cuda_graphs", False)


def _beside_captures(options: SessionOptions) -> AbstractContextManager[None]:
    return _GATE.running() if _has_graphs(options) else nullcontext()


class _CudaExecutor:
    """A model on a GPU. One run at a time."""

    provider = _NAME
    precisions = ("float32",)

    def __init__(
        self, runtime: "_Runtime", options: SessionOptions, *, graphs: bool, note: Callable[[str], None]
    ) -> None:
        self.inputs, self.outputs = runtime.inputs, runtime.outputs
        self._options = options
        if graphs and (unbindable := why_unbindable(self.inputs, self.outputs)):
            note(f"CUDA graphs are not used: {unbindable}")
        shrink = f"gpu:{options.device_id}" if options.flags.get("cuda_arena_shrink") else ""
        if shrink and graphs:
            note("the GPU's arena does not shrink: CUDA graphs use the memory that it held when they were captured")
            shrink = ""
        self._runs = GpuRuns(runtime, self.inputs, self.outputs, graphs=graphs, shrink=shrink, note=note)

    @property
    def graphs(self) -> int:
        return self._runs.graphs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with _beside_captures(self._options):
            return self._runs.run(inputs)

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        with _beside_captures(self._options):
            self._runs.bind(rows, inputs)
        try:
            with _GATE.capturing() if _has_graphs(self._options) else nullcontext():
                self._runs.capture(rows)
        except CaptureError as error:
            raise UnusableError(f"CUDA graphs are off: {first_line(error)}") from error

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Does nothing; see `--cuda-arena-shrink`."""


class _Runtime(OnnxRuntime):
    """A model opened for a GPU by ONNX Runtime."""

    def __init__(self, model: Path, options: SessionOptions, threads: int, chosen: dict[str, str]) -> None:
        super().__init__(model, options, threads, [(_NAME, chosen)])
        self._device_id = options.device_id

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundBatch:
        """Allocates GPU memory for tensors of these shapes and types."""
        binding = self._session.io_binding()
        read = {name: self._allocate(array) for name, array in inputs.items()}
        written = {name: self._allocate(array) for name, array in outputs.items()}
        for name, buffer in read.items():
            binding.bind_ortvalue_input(name, buffer)
        for name, buffer in written.items():
            binding.bind_ortvalue_output(name, buffer)

        def launch(options: object) -> None:
            # Copies use another stream than the model, so synchronise both ways.
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        page_locked = {name: _page_locked(array) for name, array in inputs.items()}
        staging = {name: buffer for name, buffer in page_locked.items() if buffer is not None}
        return BoundBatch(read, staging, written, launch)

    def _allocate(self, like: Array) -> Buffer:
        buffer: Buffer = ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, "cuda", self._device_id)
        return buffer


def _page_locked(like: Array) -> Buffer | None:
    """Allocates page-locked host memory; returns None if this ONNX Runtime offers none to Python.

    It does if its CUDA provider is a plugin, which lists its devices. All GPUs can use the memory, whichever allocates
    it.
    """
    for device in getattr(ort, "get_ep_devices", list)():
        if device.ep_name == _NAME:
            memory = device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
            if memory is not None:
                buffer: Buffer = ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, memory_info=memory)
                return buffer if is_view(buffer) else None
    return None
