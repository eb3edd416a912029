"""Batches with preallocated GPU memory: a run copies in, launches, and copies out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..tensors import FREE, Array, TensorSpec

Signature = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
"""Shape and element type of every input, in the model's order."""


class Buffer(Protocol):
    """A tensor's memory on a device (ONNX Runtime's OrtValue)."""

    def update_inplace(self, data: Array) -> None:
        """Copies a tensor in. Checks only its size in bytes, not its shape or type."""

    def numpy(self) -> Array:
        """Returns the tensor: a copy of GPU memory, or a view of host memory."""


@dataclass
class BoundBatch:
    """A model's device memory for one batch size. One run at a time."""

    inputs: Mapping[str, Buffer]
    """Device memory by input."""
    staging: Mapping[str, Buffer]
    """Page-locked host memory by input, which the GPU reads faster; may be empty."""
    outputs: Mapping[str, Buffer]
    """Device memory by output."""
    launch: Callable[[Any], None]
    """Runs with ONNX Runtime's run options and waits until all outputs are written."""

    def run(self, inputs: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Computes all outputs by name, in arrays that later runs do not change.

        Args:
            inputs: tensors of exactly the bound shapes and types.
            options: ONNX Runtime's run options.
        """
        for name, buffer in self.inputs.items():
            array = inputs[name]
            if name in self.staging:
                page_locked = self.staging[name].numpy()
                np.copyto(page_locked, array)
                array = page_locked
            buffer.update_inplace(array)
        self.launch(options)
        return {name: np.array(buffer.numpy()) for name, buffer in self.outputs.items()}


def signature(specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> Signature:
    """Returns a key: batches with equal keys share buffers. Empty if an input is missing."""
    try:
        return tuple((inputs[spec.name].shape, inputs[spec.name].dtype) for spec in specs)
    except KeyError:
        return ()


def sample(specs: tuple[TensorSpec, ...], rows: int, *, ones: bool = False) -> dict[str, Array] | None:
    """Returns inputs of a batch, or None if a dimension other than the batch's is free.

    Args:
        specs: the model's inputs.
        rows: rows of the batch; 0: the model has no batch dimension.
        ones: 0, 1, 0, 1, … instead of zeros: valid for every type and most indices.
    """
    arrays: dict[str, Array] = {}
    for spec in specs:
        shape = (rows, *spec.shape[1:]) if rows else spec.shape
        if FREE in shape:
            return None
        if spec.datatype.is_bytes:
            arrays[spec.name] = np.full(shape, "", spec.datatype.dtype)
            continue
        count = int(np.prod(shape))
        values = np.arange(count) % 2 if ones else np.zeros(count)
        arrays[spec.name] = values.astype(spec.datatype.dtype).reshape(shape)
    return arrays


def why_unbindable(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str:
    """Returns why a model's tensors cannot be preallocated, or an empty string."""
    for spec in (*inputs, *outputs):
        if not spec.datatype.has_numbers:
            return f"{spec.name} is {spec.datatype.name}"
    for spec in outputs:
        # The size may change from one run to the next.
        if FREE in spec.shape[1:]:
            return f"{spec.name} has free dimensions beside the batch's"
    return ""


def is_view(buffer: Buffer) -> bool:
    """Returns whether writing to a buffer's array writes to the buffer."""
    array = buffer.numpy()
    # As bytes, because NaN is not equal to itself.
    array.reshape(-1).view(np.uint8)[:] = 1
    return bool((buffer.numpy().reshape(-1).view(np.uint8) == 1).all())


def agree(expected: Mapping[str, Array], got: Mapping[str, Array]) -> bool:
    """Returns whether two runs of the same inputs gave the same outputs up to rounding."""
    return all(
        array.shape == got[name].shape and np.allclose(array, got[name], rtol=2e-3, atol=1e-4, equal_nan=True)
        for name, array in expected.items()
    )
