"""OpenVINO's inference requests: each is one run at a time, so threads take one and put it back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..tensors import Array


class RequestPool:
    """Runs of a compiled model with batches of any shape. Thread-safe; as many at once as there are callers."""

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        """Creates a pool, which makes requests when they are needed.

        Args:
            compiled: OpenVINO's compiled model.
            outputs: names of its outputs, in its order.
        """
        self._compiled = compiled
        self._outputs = tuple(outputs)
        # A list's pop and append are atomic.
        self._free: list[Any] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs by name, in arrays that later runs do not change."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # Not put back after an error: the next caller gets a fresh one.
        request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        found = {
            name: np.array(request.get_output_tensor(index).data, copy=True) for index, name in enumerate(self._outputs)
        }
        self._free.append(request)
        return found


class StaticBatch:
    """Runs of a model that was compiled for one batch size, with memory of their own. Thread-safe."""

    def __init__(self, compiled: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Creates the batch.

        Args:
            compiled: OpenVINO's compiled model.
            inputs, outputs: names of its tensors.
        """
        self._compiled = compiled
        self._input_names, self._output_names = tuple(inputs), tuple(outputs)
        self._free: list[tuple[Any, list[tuple[str, Array]]]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs by name, in arrays that later runs do not change."""
        try:
            bound = self._free.pop()
        except IndexError:
            bound = self._bind()
        request, read = bound
        for name, memory in read:
            memory[...] = inputs[name]
        request.infer(share_outputs=True)
        # Asked for anew: an output that is an input passed through, or a constant, may move.
        found = {name: request.get_output_tensor(index).data.copy() for index, name in enumerate(self._output_names)}
        self._free.append(bound)
        return found

    def _bind(self) -> tuple[Any, list[tuple[str, Array]]]:
        request = self._compiled.create_infer_request()
        return request, [(name, request.get_tensor(name).data) for name in self._input_names]
