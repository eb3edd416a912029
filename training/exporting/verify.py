"""Compares an exported model with the original: outputs for real inputs, and predicted labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelserve.card import Parity
from pixelserve.golden import Golden

from ..errors import ParityError
from ..runtime import CPU, CUDA, Array, OnnxModel
from .finite import check_outputs

if TYPE_CHECKING:
    from .sources import Reference

DEFAULT_TOLERANCE = 1e-5
# Some rounding errors of 11 or 8 bits, which add up from layer to layer (the flagship cifar10 in float16 differs by up
# to 0.005); and an activation rounded the other way.
_TOLERANCES = {"float16": 1e-2, "bfloat16": 3e-2, "int8": 1e-2}
# Other devices sum in a different order; ten times the rounding error is still far from a wrong answer.
_CUDA_FACTOR = 10
# Its rounding is much larger than the sums' differences.
_CUDA_FACTORS = {"float16": 4}
_GOLDEN_SAMPLES = 16


def default_tolerance(precision: str) -> float:
    """Returns the maximum accepted difference of an output element of at most 1."""
    return _TOLERANCES.get(precision, DEFAULT_TOLERANCE)


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison within the tolerance."""

    golden: Golden
    """The first samples with the original's outputs."""
    max_abs_error: float | None
    """Maximum absolute difference of an output element, or None without a reference."""
    samples: int
    """Number of compared samples."""
    tolerance: float
    """Maximum accepted absolute difference of an output element."""
    precision: str
    """The model's precision."""


def compare(
    model: OnnxModel,
    reference: "Reference | None",
    inputs: Mapping[str, Array],
    *,
    labelled: str | None,
    tolerance: float | None,
    precision: str,
) -> Comparison:
    """Runs both models on the same inputs.

    Args:
        model: the exported model.
        reference: the original; None: ONNX Runtime's outputs become the golden ones.
        inputs: tensors by name, samples along the first axis.
        labelled: the output whose highest element is the predicted label, or None.
        tolerance: maximum accepted absolute difference of an output element; None: the precision's default, relative
            to the largest output if that is above 1.
        precision: the model's precision.

    Raises:
        ParityError: an output differs by more, a predicted label differs, or an output is NaN or infinite.
    """
    found = model.run(inputs)
    check_outputs(found)
    expected = found if reference is None else reference(inputs)
    samples = len(next(iter(inputs.values())))
    golden = Golden(first(inputs), first(expected))
    tolerance = tolerance or _usual_tolerance(precision, expected)
    if reference is None:
        return Comparison(golden, None, 0, tolerance, precision)
    worst = max(_difference(name, found[name], expected[name]) for name in expected)
    if not worst <= tolerance:
        raise ParityError(
            f"the exported model differs from the original by up to {worst:.3g} on {samples:,} samples, more than the "
            f"accepted {tolerance:.3g}; nothing was written: give a larger --tolerance if that is acceptable, "
            f"or replace the layers that do not convert exactly"
        )
    if labelled is not None:
        _check_labels(found[labelled], expected[labelled])
    return Comparison(golden, worst, samples, tolerance, precision)


def parity(comparison: Comparison) -> list[Parity]:
    """Returns the card's tolerances: measured on the CPU, and derived for GPUs."""
    precision, tolerance = comparison.precision, comparison.tolerance
    return [
        Parity(
            precision=precision,
            provider=CPU,
            tolerance=tolerance,
            max_abs_error=comparison.max_abs_error,
            samples=comparison.samples,
        ),
        Parity(precision=precision, provider=CUDA, tolerance=tolerance * _CUDA_FACTORS.get(precision, _CUDA_FACTOR)),
    ]


def _usual_tolerance(precision: str, outputs: Mapping[str, Array]) -> float:
    floats = [array.astype(np.float64) for array in outputs.values() if array.dtype.kind == "f"]
    largest = max((float(np.abs(array).max(initial=0.0)) for array in floats), default=0.0)
    # Float precision is relative; a card has three digits.
    return float(f"{default_tolerance(precision) * max(1.0, largest):.3g}")


def first(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the golden samples of tensors by name."""
    return {name: array[:_GOLDEN_SAMPLES] for name, array in tensors.items()}


def _difference(name: str, found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        raise ParityError(
            f"the exported model's {name} has shape {list(found.shape)}, the original's {list(expected.shape)}; "
            f"nothing was written"
        )
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))


def _check_labels(found: Array, expected: Array) -> None:
    other = np.flatnonzero(found.argmax(axis=-1).ravel() != expected.argmax(axis=-1).ravel())
    if len(other):
        raise ParityError(
            f"the exported model predicts a different label than the original for {len(other)} of {len(found):,} "
            f"samples, first for sample {other[0]}; nothing was written"
        )
