"""Batches whose memory on the GPU is allocated once: a run copies in, launches, and copies out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..tensors import FREE, Array, TensorSpec

Signature = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
"""Shape and element type of every input, in the model's order."""


class Buffer(Protocol):
    """A tensor's memory on a device; ONNX Runtime's OrtValue."""

    def update_inplace(self, data: Array) -> None:
        """Copies a tensor in. Checks its size in bytes, and neither its shape nor its type."""

    def numpy(self) -> Array:
        """Returns the tensor: a copy of what a GPU holds, a view of what the host holds."""


@dataclass
class BoundBatch:
    """The memory of one batch size of a model on a device. One run at a time."""

    inputs: Mapping[str, Buffer]
    """Where the device reads, by input."""
    staging: Mapping[str, Buffer]
    """Page-locked memory on the host, by input, which the GPU reads faster; empty where there is none."""
    outputs: Mapping[str, Buffer]
    """Where the device writes, by output."""
    launch: Callable[[Any], None]
    """Computes, with ONNX Runtime's run options, and waits until everything is written."""

    def run(self, inputs: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Computes all outputs, by name, in arrays that the next run leaves alone.

        Args:
            inputs: tensors of exactly the shapes and types that are bound.
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
    """Returns what must be equal for two batches to share buffers; empty where an input is missing."""
    try:
        return tuple((inputs[spec.name].shape, inputs[spec.name].dtype) for spec in specs)
    except KeyError:
        return ()


def sample(specs: tuple[TensorSpec, ...], rows: int, *, ones: bool = False) -> dict[str, Array] | None:
    """Returns inputs of a batch; None where a dimension beside the batch's is free, so that no size is known.

    Args:
        specs: the model's inputs.
        rows: rows of the batch; 0: the model has no batch dimension.
        ones: 0, 1, 0, 1 and so on, instead of zeros: good for every type, and for most indices.
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
    """Returns why a model's tensors cannot have memory that is allocated once; empty where they can."""
    for spec in (*inputs, *outputs):
        if not spec.datatype.has_numbers:
            return f"{spec.name} is {spec.datatype.name}"
    for spec in outputs:
        # A size that is known from one run may be another in the next.
        if FREE in spec.shape[1:]:
            return f"{spec.name} has free dimensions beside the batch's"
    return ""


def is_view(buffer: Buffer) -> bool:
    """Returns whether what is written into a buffer's array is written into the buffer."""
    array = buffer.numpy()
    # Of bytes, since every pattern of them is equal to itself, which not every float is.
    array.reshape(-1).view(np.uint8)[:] = 1
    return bool((buffer.numpy().reshape(-1).view(np.uint8) == 1).all())


def agree(expected: Mapping[str, Array], got: Mapping[str, Array]) -> bool:
    """Returns whether two runs of the same inputs gave the same outputs, but for rounding."""
    return all(
        array.shape == got[name].shape and np.allclose(array, got[name], rtol=2e-3, atol=1e-4, equal_nan=True)
        for name, array in expected.items()
    )
