"""One loaded ONNX model. The server's only module that imports ONNX Runtime."""

import ctypes
import importlib.metadata
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pixelserve.external_data import ExternalDataError, external_files
from pixelserve.onnx_runtime import ort
from pixelserve.too_new import too_new

from ..errors import InvalidRequest, RepositoryError, StartupError, unreadable
from .binding import BoundBatch, Buffer, is_view
from .cores import usable_cores
from .gpu import GATE, CaptureError, GpuRuns
from .input_faults import explain
from .locales import missing_locale
from .memory import trim
from .providers import (
    CPU,
    CUDA,
    CUDA_PREFIX,
    InUse,
    SessionOptions,
    choose_threads,
    provider_list,
    session_config,
    shrink_config,
)
from .reshape import Reshape, seen_from_outside
from .tensors import BY_ONNX, FREE, Array, TensorSpec

_BFLOAT16 = "tensor(bfloat16)"
_STRING = "tensor(string)"
# ONNX Runtime's level of the log lines that no exception tells.
_FATAL = 4
# ONNX's number for bfloat16 (TensorProto.DataType).
_BFLOAT16_NUMBER = 16

__all__ = ["CPU", "CUDA", "Session", "check_model_file", "check_runtime", "runtime_version"]


def check_runtime(device: str, *, require_gpu: bool = False) -> None:
    """Checks that ONNX Runtime is installed once and can serve `device` (auto, cpu or cuda).

    Raises:
        StartupError: both packages are installed; CUDA is asked for, and this ONNX Runtime has none; or a GPU is
            required, and the CPU asked for.
    """
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) > 1:
        raise StartupError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "remove both with: pip uninstall -y onnxruntime onnxruntime-gpu, "
            "then install one, in PixelServe's clone: pip install -e '.[server]' or pip install -e '.[server-cuda]'"
        )
    if require_gpu and device == "cpu":
        raise StartupError("--require-gpu and --device cpu contradict each other; leave one of them out")
    asked, remedy = _asked(SessionOptions(device="cuda" if device == "cuda" else "auto", require_gpu=require_gpu))
    if asked and CUDA not in ort.get_available_providers():
        raise StartupError(
            f"{asked}: this ONNX Runtime has no CUDA provider; "
            "run: pip uninstall -y onnxruntime, then in PixelServe's clone: pip install -e '.[server-cuda]'; "
            f"or take {remedy}"
        )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _asked(options: SessionOptions) -> tuple[str, str]:
    """Returns the flag that asks for a GPU, and what to take where there is none; nothing where no flag does."""
    if options.require_gpu:
        return "--require-gpu", "--no-require-gpu"
    return ("--device cuda", "--device auto") if options.device == "cuda" else ("", "")


def runtime_version() -> str:
    """Returns ONNX Runtime's version."""
    return str(ort.__version__)


class Session:
    """A model that computes, and releases the GIL meanwhile.

    `run` may be called from any thread: on the CPU by several at once, on a GPU by one at a time.
    """

    def __init__(
        self, model: Path, options: SessionOptions, reshapes: Mapping[str, Reshape] = MappingProxyType({})
    ) -> None:
        """Loads a model.

        Args:
            model: the ONNX file.
            options: where and how it computes.
            reshapes: of tensors that have another shape for clients than in the graph, by name; one that does not suit
                the graph's tensor is left out.

        Raises:
            RepositoryError: the file is missing, damaged, or uses something that this ONNX Runtime has not.
            StartupError: a GPU is asked for or required, and the model would be computed on the CPU; or ONNX Runtime
                does not know an option of its CUDA provider.
        """
        self._model = model
        self._options = options
        self._asked_reshapes = reshapes
        self._threads = choose_threads(options, usable_cores())
        self._notes: list[str] = []
        self._announced: dict[int, Mapping[str, Array]] = {}
        may_use_gpu = options.device != "cpu" and CUDA in ort.get_available_providers()
        # Where one session captures, all must keep out of its way, also those that gave up on graphs.
        self._shares_gate = may_use_gpu and options.cuda.graphs
        self._start(graphs=self._shares_gate)

    def _start(self, *, graphs: bool) -> None:
        with self._beside_captures():
            self._runtime, graphs = self._open(graphs=graphs)
        self.provider: str = self._runtime.provider
        if self.provider != CUDA:
            self._accept_cpu()
        inputs, outputs = (
            tuple(_spec(self._model, node) for node in nodes) for nodes in (self._runtime.inputs, self._runtime.outputs)
        )
        self.inputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in inputs)
        self.outputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in outputs)
        reshaped = [spec.name for spec in (*self.inputs, *self.outputs) if spec.inside is not None]
        self._reshapes = {name: self._asked_reshapes[name] for name in reshaped}
        self._gpu: GpuRuns | None = None
        if self.provider == CUDA:
            self._gpu = GpuRuns(self._runtime, inputs, outputs, self._options, graphs=graphs, note=self._notes.append)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and is not used, and why: sentences for the log."""
        return tuple(self._notes)

    @property
    def in_use(self) -> InUse:
        """What this session really uses."""
        gpu = self._gpu
        device_id = None if gpu is None else self._options.device_id
        return InUse(self.provider, device_id, self._threads, gpu.graphs if gpu else 0, self.notes)

    def warm(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Announces a batch size and computes it, so that no request pays for its first run.

        On a GPU it gets memory of its own, and a CUDA graph where they are asked for. Only the thread that captured a
        graph can replay it: announce a size on the thread that will run it, which any other does without the graph.

        Args:
            rows: rows of the batch; 0: the model has no batch dimension.
            inputs: a batch of so many rows.

        Raises:
            Exception: the model cannot compute it.
        """
        if self._gpu is not None:
            self._announce(self._gpu, rows, self._enter(inputs))
        self.run(inputs)

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Gives the memory that larger batches needed back to the system, after a run of small inputs; no-op on a GPU.

        ONNX Runtime's arena otherwise keeps the most that any batch has needed.
        """
        if self._gpu is None:
            self._runtime.run(self._enter(inputs), self._runtime.run_options(shrink_config("cpu:0")))
            trim()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs, by name, of input tensors, by name; shapes are those that clients see.

        Raises:
            InvalidRequest: the graph cannot compute inputs of these shapes or values.
            Exception: whatever else ONNX Runtime raises.
        """
        try:
            if not self._reshapes:
                return self._compute(inputs)
            outputs = self._compute(self._enter(inputs))
            return {name: self.leave(name, array) for name, array in outputs.items()}
        except Exception as error:
            reason = explain(str(error))
            if reason is None:
                raise
            raise InvalidRequest(reason) from error

    def leave(self, name: str, output: Array) -> Array:
        """Returns an output of the graph in the shape that clients see."""
        return self._reshapes[name].leave(output) if name in self._reshapes else output

    def _enter(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        reshapes = self._reshapes
        return {name: reshapes[name].enter(array) if name in reshapes else array for name, array in inputs.items()}

    def _compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._gpu is None:
            return self._runtime.run(inputs)
        with self._beside_captures():
            return self._gpu.run(inputs)

    def _announce(self, gpu: GpuRuns, rows: int, inputs: Mapping[str, Array]) -> None:
        with self._beside_captures():
            gpu.bind(rows, inputs)
        self._announced[rows] = inputs
        try:
            with GATE.capturing() if self._shares_gate else nullcontext():
                gpu.capture(rows)
        except CaptureError as error:
            # A run that broke off while it captured may leave its session unusable.
            self._notes = [f"CUDA graphs are off: {_first_line(error)}"]
            self._start(graphs=False)
            for known, batch in self._announced.items():
                self.warm(known, batch)

    def _beside_captures(self) -> AbstractContextManager[None]:
        return GATE.running() if self._shares_gate else nullcontext()

    def _open(self, *, graphs: bool) -> tuple["_Runtime", bool]:
        """Opens the model; without graphs where it cannot be captured as a whole, which ONNX Runtime refuses then."""
        if not graphs:
            return _Runtime(self._model, self._options, self._threads, graphs=False), False
        refused = "it would leave the GPU"
        try:
            runtime = _Runtime(self._model, self._options, self._threads, graphs=True)
            if runtime.provider == CUDA:
                return runtime, True
        except RepositoryError as error:
            refused = _first_line(error.__cause__ or error)
        runtime = _Runtime(self._model, self._options, self._threads, graphs=False)
        if runtime.provider == CUDA:
            self._notes.append(f"CUDA graphs are off: ONNX Runtime does not capture this model ({refused})")
        return runtime, False

    def _accept_cpu(self) -> None:
        """Raises StartupError where a GPU is asked for, and notes what has no meaning on the CPU."""
        asked, remedy = _asked(self._options)
        if asked and self._options.device == "cpu":
            raise StartupError(
                f"{asked}: {self._model} is to be computed on the CPU; "
                f"change instance_group in its config.pbtxt to KIND_GPU, or take {remedy}"
            )
        if asked:
            raise StartupError(
                f"{asked}: {self._model} was loaded on {self.provider}, because no GPU or no CUDA library answers; "
                f"check nvidia-smi, or take {remedy}"
            )
        if self._options.cuda.graphs:
            self._notes.append("CUDA graphs are off: the model is computed on the CPU")
        if any(key.startswith(CUDA_PREFIX) for key in self._options.config):
            self._notes.append(f"--session-option {CUDA_PREFIX}* is not used: the model is computed on the CPU")


class _Runtime:
    """A model in ONNX Runtime's hands."""

    def __init__(self, model: Path, options: SessionOptions, threads: int, *, graphs: bool) -> None:
        """Loads a model; raises RepositoryError where that fails."""
        available = ort.get_available_providers()
        providers = provider_list(options, available, graphs=graphs)
        if providers[0][0] == CUDA and hasattr(ort, "preload_dlls"):
            # Finds the CUDA and cuDNN libraries of the nvidia-* wheels, which no loader path leads to.
            ort.preload_dlls()
        self._device_id = options.device_id
        self._session = _load(model, _session_options(options, threads), providers)
        # Or a run that failed on the GPU would move the session to the CPU without a word.
        self._session.disable_fallback()
        self.provider: str = self._session.get_providers()[0]
        self.inputs: Sequence[Any] = self._session.get_inputs()
        self.outputs: Sequence[Any] = self._session.get_outputs()
        _check_names(model, (*self.inputs, *self.outputs))
        self._names = [node.name for node in self.outputs]
        self._kinds = {node.name: node.type for node in self.inputs}
        self._has_bfloat16 = any(node.type == _BFLOAT16 for node in (*self.inputs, *self.outputs))
        if self._has_bfloat16 and _STRING in self._kinds.values():
            raise RepositoryError(
                f"{model}: its inputs hold strings beside bfloat16 tensors; export it with float ones"
            )

    def run(self, inputs: Mapping[str, Array], options: Any = None) -> dict[str, Array]:
        if self._has_bfloat16:
            return self._run_values(inputs, options)
        return dict(zip(self._names, self._session.run(self._names, inputs, options), strict=True))

    def _run_values(self, inputs: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """The same through ONNX Runtime's own tensors, which have types that NumPy's have not."""
        values = {name: _to_value(array, self._kinds[name]) for name, array in inputs.items()}
        results = self._session.run_with_ort_values(self._names, values, options)
        return {name: _from_value(value) for name, value in zip(self._names, results, strict=True)}

    def run_options(self, entries: Mapping[str, str]) -> Any:
        options = ort.RunOptions()
        for key, value in entries.items():
            options.add_run_config_entry(key, value)
        return options

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundBatch:
        binding = self._session.io_binding()
        read = {name: self._allocate(array) for name, array in inputs.items()}
        written = {name: self._allocate(array) for name, array in outputs.items()}
        for name, buffer in read.items():
            binding.bind_ortvalue_input(name, buffer)
        for name, buffer in written.items():
            binding.bind_ortvalue_output(name, buffer)

        def launch(options: Any) -> None:
            # The copies before it are on another stream than the model's; neither may overtake the other.
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        page_locked = {name: _page_locked(array) for name, array in inputs.items()}
        staging = {name: buffer for name, buffer in page_locked.items() if buffer is not None}
        return BoundBatch(read, staging, written, launch)

    def _allocate(self, like: Array) -> Buffer:
        buffer: Buffer = ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, "cuda", self._device_id)
        return buffer


def _to_value(array: Array, kind: str) -> Any:
    if kind != _BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BFLOAT16_NUMBER)


def _from_value(value: Any) -> Array:
    if value.data_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    if value.device_name() != "cpu":
        raise RuntimeError("a bfloat16 output is in the GPU's memory, from where it is not fetched")
    bits = np.empty(value.shape(), BY_ONNX[_BFLOAT16].dtype)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits


def _page_locked(like: Array) -> Buffer | None:
    """Allocates page-locked memory on the host; None where this ONNX Runtime offers none to Python.

    It does where its CUDA provider is a plugin, which lists its devices. Whichever GPU the memory is asked of, all of
    them can use it.
    """
    for device in getattr(ort, "get_ep_devices", list)():
        if device.ep_name == CUDA:
            memory = device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
            if memory is not None:
                buffer: Buffer = ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, memory_info=memory)
                return buffer if is_view(buffer) else None
    return None


def _session_options(options: SessionOptions, threads: int) -> Any:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    for key, value in session_config(options).items():
        chosen.add_session_config_entry(key, value)
    # What goes wrong is in the exception too. A line for each bad request would let its sender fill the log.
    chosen.log_severity_level = _FATAL
    return chosen


def check_model_file(model: Path) -> None:
    """Raises RepositoryError if there is no file of that name, or its weights are not beside it."""
    try:
        if not model.is_file():
            raise RepositoryError("no such file; a version folder must hold the model", path=model)
        external_files(model)
    except ExternalDataError as error:
        raise RepositoryError(str(error), path=model) from error
    except OSError as error:
        raise unreadable(model, error) from error


def _load(model: Path, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
    check_model_file(model)
    try:
        return _open_session(model, options, providers)
    except Exception as error:
        if "provider option" in str(error):
            raise StartupError(f"--session-option: ONNX Runtime does not take it: {_first_line(error)}") from error
        known = too_new(str(error)) or missing_locale(str(error))
        problem = f"ONNX Runtime {runtime_version()} cannot load it"
        if known is not None:
            raise RepositoryError(f"{problem}: {known}", path=model) from error
        remedy = "the file is damaged or made for a newer runtime: copy or export it again"
        raise RepositoryError(f"{problem} ({_first_line(error)}); {remedy}", path=model) from error


def _open_session(model: Path, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
    try:
        # Its own fallback would go to the CPU over an option that it does not know, and say so on stdout only.
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _spec(model: Path, node: Any) -> TensorSpec:
    datatype = BY_ONNX.get(node.type)
    if datatype is None:
        problem = f"{node.name} is a {node.type}, which is not served; expected a dense tensor"
        zipmap = "; `pixelserve export` cuts off ZipMap, by which skl2onnx makes dictionaries of probabilities"
        raise RepositoryError(problem + (zipmap if "map(" in node.type else ""), path=model)
    # A free dimension has a name or None where a fixed one has a number.
    shape = tuple(dimension if isinstance(dimension, int) else FREE for dimension in node.shape)
    return TensorSpec(node.name, datatype, shape)
