"""Runs a model's batches on a GPU, with preallocated memory and, if possible, captured graphs."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..tensors import Array, TensorSpec
from .binding import BoundBatch, Signature, agree, sample, signature, why_unbindable
from .onnx_runtime import shrink_config

# The graph number for runs without capture and replay. ONNX Runtime's default would capture.
_NO_GRAPH = -1
# ONNX Runtime captures a batch by its third run: the first ones allocate, which captures must not.
_RUNS_TO_CAPTURE = 3


class CaptureError(Exception):
    """A batch was not captured, or its graph gives other outputs; the session may be unusable."""


class Runtime(Protocol):
    """ONNX Runtime's interface used here; tests replace it with a fake."""

    def run(self, inputs: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Computes all outputs from inputs, both by name; `options` come from `run_options`."""

    def run_options(self, entries: Mapping[str, str]) -> Any:
        """Creates the options of a run."""

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundBatch:
        """Allocates memory for tensors of these shapes and types."""


@dataclass
class _Announced:
    """An announced batch size."""

    batch: BoundBatch
    """Its memory."""
    replay: Any
    """Run options that capture and replay its graph."""
    thread: threading.local = field(default_factory=threading.local)
    """Whether the current thread captured it; ONNX Runtime keeps graphs per thread."""

    @property
    def captured(self) -> bool:
        return getattr(self.thread, "captured", False)


class GpuRuns:
    """Runs the batches of one session on a GPU, one at a time.

    Args:
        runtime: the model's runtime.
        inputs, outputs: the model's tensors.
        graphs: whether the runtime was opened with graphs enabled.
        shrink: the device, such as `gpu:0`, whose arena releases unused memory after runs of shapes that were not
            announced; empty: none.
        note: receives a sentence for each requested feature that is not used.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        graphs: bool,
        shrink: str,
        note: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._graphs = graphs
        self._note = note
        self._announced: dict[Signature, _Announced] = {}
        self._unbindable = why_unbindable(inputs, outputs)
        self._plain = self._run_options()
        # Only shapes that were not announced make the arena grow beyond what serving needs.
        self._unannounced = self._run_options(shrink=shrink)

    @property
    def graphs(self) -> int:
        """Number of batch sizes that the calling thread replays as graphs."""
        return sum(each.captured for each in self._announced.values())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs from inputs, both by name."""
        announced = self._announced.get(signature(self._inputs, inputs))
        if announced is None:
            return self._runtime.run(inputs, self._unannounced)
        return announced.batch.run(inputs, announced.replay if announced.captured else self._plain)

    def bind(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Announces a batch size and allocates its memory; see `Executor.announce`.

        Raises:
            Exception: the model cannot run it.
        """
        is_fixed = sample(self._inputs, rows) is not None
        if not is_fixed or self._unbindable or signature(self._inputs, inputs) in self._announced:
            return
        outputs = self._runtime.run(inputs, self._plain)
        try:
            batch = self._runtime.bind(inputs, outputs)
        except Exception as error:  # noqa: BLE001  whatever ONNX Runtime raises, it can still allocate per run
            self._note(f"batches of {rows} rows have no memory of their own on the GPU: {error}")
            return
        replay = self._run_options(graph=len(self._announced) + 1)
        self._announced[signature(self._inputs, inputs)] = _Announced(batch, replay)

    def capture(self, rows: int) -> None:
        """Captures an announced batch size on the calling thread; nothing else may use the GPU meanwhile.

        Its replay must match the model's outputs for other inputs than those of the capture.

        Raises:
            CaptureError: it was not captured, or its replay gives other outputs.
        """
        zeros, ones = sample(self._inputs, rows), sample(self._inputs, rows, ones=True)
        announced = self._announced.get(signature(self._inputs, zeros or {}))
        if zeros is None or ones is None or announced is None or announced.captured or not self._graphs:
            return
        try:
            expected = self._runtime.run(ones, self._plain)
            for _ in range(_RUNS_TO_CAPTURE):
                announced.batch.run(zeros, announced.replay)
            replayed = announced.batch.run(ones, announced.replay)
        except Exception as error:
            raise CaptureError(f"{rows} rows: {error}") from error
        if not agree(expected, replayed):
            raise CaptureError(f"{rows} rows: the graph's outputs differ from the model's")
        announced.thread.captured = True

    def _run_options(self, *, graph: int = _NO_GRAPH, shrink: str = "") -> Any:
        return self._runtime.run_options(run_config(graphs=self._graphs, graph=graph, shrink=shrink))


def run_config(*, graphs: bool, graph: int = _NO_GRAPH, shrink: str = "") -> dict[str, str]:
    """Returns the entries of one run's configuration on a GPU (onnxruntime_run_options_config_keys.h).

    Args:
        graphs: whether the session may capture graphs; such a session needs a graph number for every run.
        graph: the number of the graph to capture or replay.
        shrink: the device whose arena then releases unused memory; empty: none.
    """
    entries = {"gpu_graph_id": str(graph)} if graphs else {}
    return entries | (shrink_config(shrink) if shrink else {})
