"""One loaded model, as clients see its tensors."""

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
    choose,
    choose_threads,
    provider_at,
    refuse_or_note,
)
from .reshape import Reshape, seen_from_outside
from .tensors import Array


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
            StartupError: the options ask for another provider than the one that would compute the model, or the runtime
                does not know an option of its provider.
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
        provider = choose(self._options)
        executor = provider.open(self._model, self._options, self._threads, self._notes.append, plain=plain)
        self.provider: str = executor.provider
        refuse_or_note(self._model, self._options, self.provider, self._notes.append)
        self._executor = executor
        self.inputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in executor.inputs)
        self.outputs = tuple(seen_from_outside(spec, self._asked_reshapes) for spec in executor.outputs)
        reshaped = [spec.name for spec in (*self.inputs, *self.outputs) if spec.inside is not None]
        self._reshapes = {name: self._asked_reshapes[name] for name in reshaped}

    @property
    def in_use(self) -> InUse:
        """What this session really uses."""
        device_id = self._options.device_id if provider_at(self.provider).on_gpu else None
        return InUse(self.provider, device_id, self._threads, self._executor.graphs, self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and is not used, and why: sentences for the log."""
        return tuple(self._notes)

    def warm(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Announces a batch size and computes it, so that no request pays for its first run.

        On a GPU it gets memory of its own, and a captured graph if the options ask for graphs. Only the thread that
        captured a graph can replay it: announce a size on the thread that will run it, which any other does without
        the graph.

        Args:
            rows: rows of the batch; 0: the model has no batch dimension.
            inputs: a batch of so many rows.

        Raises:
            Exception: the model cannot compute it.
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
        """Gives the memory that larger batches needed back to the system, after a run of small inputs; no-op on a GPU.

        ONNX Runtime's arena otherwise keeps the most that any batch has needed.
        """
        self._executor.release_memory(self._enter(inputs))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs, by name, of input tensors, by name; shapes are those that clients see.

        Raises:
            InvalidRequest: the graph cannot compute inputs of these shapes or values.
            Exception: whatever else the runtime raises.
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
        """Returns an output of the graph in the shape that clients see."""
        return self._reshapes[name].leave(output) if name in self._reshapes else output

    def _enter(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        reshapes = self._reshapes
        return {name: reshapes[name].enter(array) if name in reshapes else array for name, array in inputs.items()}


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
