"""Computes small batches with one engine and larger ones with another."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from ..tensors import Array, TensorSpec
from .base import Executor


class BySize:
    """A model opened by several providers, each for batches from some size upwards.

    Its name is that of the provider for the largest batches.
    """

    graphs = 0

    def __init__(self, executors: Sequence[tuple[int, Executor]]) -> None:
        """Combines executors of one model.

        Args:
            executors: the smallest batch of each in rows, ascending from 1, and what computes it.
        """
        # Below the first size there is nothing, so bisecting the others gives the executor's index.
        self._from = [rows for rows, _ in executors[1:]]
        self._executors = [executor for _, executor in executors]
        largest = self._executors[-1]
        self.provider: str = largest.provider
        # One engine may know a shape that another does not; clients see what the first says.
        self.inputs: tuple[TensorSpec, ...] = self._executors[0].inputs
        self.outputs: tuple[TensorSpec, ...] = self._executors[0].outputs
        self._first_input = self.inputs[0].name
        self.precisions = tuple(precision for each in self._executors for precision in each.precisions)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs from inputs, both by name."""
        return self._at(len(inputs[self._first_input])).run(inputs)

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Prepares the executor for batches of `rows` rows; see `Executor.announce`."""
        self._at(rows).announce(rows, inputs)

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Releases the memory of larger batches in all executors."""
        for executor in self._executors:
            executor.release_memory(inputs)

    def _at(self, rows: int) -> Executor:
        return self._executors[bisect_right(self._from, rows)]
