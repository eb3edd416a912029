"""A loaded model with its tensors as clients see them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pixelserve.external_data import ExternalDataError, external_files

from ..errors import InvalidRequest, RepositoryError, unreadable
from .cores import usable_cores
from .input_faults import explain
from .providers import (
    InUse,
    SessionOptions,
    UnusableError,
    choose_threads,
    open_model,
    provider_at,
    refuse_or_note,
)
from .reshape import Reshape, seen_from_outside
from .tensors import MAX_DIMENSIONS, Array


class Session:
    """A loaded model. Runs release the GIL.

    `run` may be called from any thread; on the CPU by several at once, on a GPU by one at a time.
    """

    def __init__(
        self, model: Path, options: SessionOptions, reshapes: Mapping[str, Reshape] = MappingProxyType({})
    ) -> None:
        """Loads a model.

        Args:
            model: the ONNX file.
            options: where and how it runs.
            reshapes: by name, of tensors whose shape for clients differs from the graph's; any that does not fit the
                graph's tensor is ignored.

        Raises:
            RepositoryError: the file is missing, damaged, or not supported by this ONNX Runtime.
            StartupError: the options select another provider than the model would run on, or have a provider option
                that the runtime does not know.
        """
        self._model = model
        self._options = options
        self._asked_reshapes = reshapes
        self._threads = choose_threads(options, usable_cores())
        self._notes: list[str] = []
        self._announced: dict[int, Mapping[str, Array]] = {}
        self._start()

    def _start(self, *, plain: bool = False) -> None:
        check_model_file(self._model)
        executor = open_model(self._model, self._options, self._threads, self._notes.append, plain=plain)
        self.provider: str = executor.provider
        self.precisions: tuple[str, ...] = executor.precisions
        """What it computes float32 tensors in: one, or one per range of batch sizes, from small to large."""
        refuse_or_note(self._model, self._options, self.provider, self._notes.append)
        self._executor = executor
        self.inputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in executor.inputs)
        self.outputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in executor.outputs)
        self._check_dimensions()
        reshaped = [spec.name for spec in (*self.inputs, *self.outputs) if spec.inside is not None]
        self._reshapes = {name: self._asked_reshapes[name] for name in reshaped}

    def _check_dimensions(self) -> None:
        executor = self._executor
        for spec in (*executor.inputs, *executor.outputs, *self.inputs, *self.outputs):
            if len(spec.shape) > MAX_DIMENSIONS:
                problem = f"{spec.name} has {len(spec.shape)} dimensions; at most {MAX_DIMENSIONS} are served"
                raise RepositoryError(problem, path=self._model)

    @property
    def in_use(self) -> InUse:
        """What this session actually uses."""
        device_id = self._options.device_id if provider_at(self.provider).on_gpu else None
        engine = "+".join(each.engine for each in self._options.engines)
        return InUse(
            provider=self.provider,
            engine=engine,
            precision="+".join(self.precisions),
            device_id=device_id,
            threads=self._threads,
            graphs=self._executor.graphs,
            notes=self.notes,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Why requested features are not used: sentences for the log."""
        return tuple(self._notes)

    def warm(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Announces and runs a batch size, so no request pays for its first run.

        On a GPU, this allocates the size's memory and, if the options enable graphs, captures its graph. Only the
        thread that captured a graph can replay it, so announce a size on the thread that will run it; other threads run
        it without the graph.

        Args:
            rows: rows of the batch; 0: the model has no batch dimension.
            inputs: a batch of that many rows.

        Raises:
            Exception: the model cannot run it.
        """
        try:
            self._executor.announce(rows, self._enter(inputs))
            self._announced[rows] = inputs
        except UnusableError as error:
            self._notes = [str(error)]
            self._start(plain=True)
            for known, batch in {**self._announced, rows: inputs}.items():
                self.warm(known, batch)
        self.run(inputs)

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Returns the memory of larger batches to the system, by a run of small inputs; no-op on a GPU.

        Otherwise ONNX Runtime's arena keeps the peak of all batches.
        """
        self._executor.release_memory(self._enter(inputs))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs by name from inputs by name, in the shapes that clients see.

        Raises:
            InvalidRequest: the graph cannot process inputs of these shapes or values.
            Exception: any other error of the runtime.
        """
        try:
            if not self._reshapes:
                return self._executor.run(inputs)
            outputs = self._executor.run(self._enter(inputs))
            return {name: self.leave(name, array) for name, array in outputs.items()}
        except Exception as error:
            reason = explain(str(error))
            if reason is None:
                raise
            raise InvalidRequest(reason) from error

    def leave(self, name: str, output: Array) -> Array:
        """Returns a graph output in the shape that clients see."""
        return self._reshapes[name].leave(output) if name in self._reshapes else output

    def _enter(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        reshapes = self._reshapes
        return {name: reshapes[name].enter(array) if name in reshapes else array for name, array in inputs.items()}


def check_model_file(model: Path) -> None:
    """Raises RepositoryError if the file or its external weights are missing."""
    try:
        if not model.is_file():
            raise RepositoryError("no such file; a version folder must hold the model", path=model)
        external_files(model)
    except ExternalDataError as error:
        raise RepositoryError(str(error), path=model) from error
    except OSError as error:
        raise unreadable(model, error) from error
