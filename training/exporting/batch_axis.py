"""Frees the batch axis of models that were built or called with a fixed number of samples."""

from dataclasses import replace

import numpy as np

from .. import frameworks
from ..progress import say
from ..runtime import Array
from .convert import Signature

_RUNS = 3
# Other sizes are summed in another order.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


def with_free_batch(signature: Signature) -> Signature:
    """Returns a function of any number of samples, if each gets the rows that it gets in the original's batch.

    A Keras model that was called with one picture before it was saved has a batch of one in its shape, which nothing in
    it depends on. One whose layers do is left as it is.
    """
    rows = signature.shape[0] if signature.shape else None
    if rows is None or None in signature.shape:
        return signature
    free = replace(signature, shape=(None, *signature.shape[1:]))
    try:
        is_same = _gives_the_same(free, signature, rows)
    except Exception:  # noqa: BLE001 - whatever a layer raises for another shape
        is_same = False
    if not is_same:
        say(f"note: its batch of {rows} is part of what it computes: requests cannot share a run, nor send pictures")
        return signature
    say(f"note: its batch of {rows} was made free; each sample gets the same outputs as before")
    return free


def _gives_the_same(free: Signature, fixed: Signature, rows: int) -> bool:
    tf = frameworks.load().tf
    spec = tf.TensorSpec(free.shape, free.dtype)
    traced = tf.function(lambda tensor: free.call(tensor), input_signature=[spec])
    inputs = _made_up((_RUNS * rows, *fixed.shape[1:]), fixed.dtype)
    runs = [fixed.call(tf.constant(inputs[start : start + rows])) for start in range(0, len(inputs), rows)]
    together, alone = traced(tf.constant(inputs)), traced(tf.constant(inputs[-1:]))
    for name in fixed.outputs:
        expected = np.concatenate([np.asarray(run[name]) for run in runs])
        if len(expected) != len(inputs) or not (
            _agree(together[name], expected) and _agree(alone[name], expected[-1:])
        ):
            return False
    return True


def _made_up(shape: tuple[int | None, ...], dtype: str) -> Array:
    random = np.random.default_rng(0)
    if dtype.startswith("float"):
        # Some as scaled pixels are, some as pixels: one of these moves what the model gives.
        values = random.random(shape)  # type: ignore[arg-type]
        values[::2] *= 255
        return values.astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)  # type: ignore[arg-type]


def _agree(found: Array, expected: Array) -> bool:
    found = np.asarray(found)
    return found.shape == expected.shape and np.allclose(found, expected, _RELATIVE, _ABSOLUTE)
