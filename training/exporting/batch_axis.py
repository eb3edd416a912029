"""Makes a fixed batch dimension free."""

from dataclasses import replace

import numpy as np

from .. import frameworks
from ..progress import say
from ..runtime import Array
from .signature import Signature

_RUNS = 3
# Other sizes sum in a different order.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


def with_free_batch(signature: Signature) -> Signature:
    """Returns a function with a free batch dimension if each sample keeps the outputs of the original.

    A Keras model that was called with one image before it was saved has a batch of one in its shape. If its layers
    depend on it, it is returned unchanged.
    """
    rows = signature.shape[0] if signature.shape else None
    if rows is None or None in signature.shape:
        return signature
    free = replace(signature, shape=(None, *signature.shape[1:]))
    try:
        is_same = _gives_the_same(free, signature, rows)
    except Exception:  # noqa: BLE001 - layers raise anything for another shape
        is_same = False
    if not is_same:
        say(f"note: its batch of {rows} is part of its computation: requests cannot share a run or send images")
        return signature
    say(f"note: its batch of {rows} was made free; outputs per sample are unchanged")
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
        # In the ranges of scaled pixels and of raw pixels: one of them changes the output.
        values = random.random(shape)  # type: ignore[arg-type]
        values[::2] *= 255
        return values.astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)  # type: ignore[arg-type]


def _agree(found: Array, expected: Array) -> bool:
    found = np.asarray(found)
    return found.shape == expected.shape and np.allclose(found, expected, _RELATIVE, _ABSOLUTE)
