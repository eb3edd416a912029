"""Holds an exported model against the original: the outputs on real inputs, and the labels that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelserve.card import Golden, Parity

from ..errors import ParityError
from ..runtime import CPU, CUDA, Array, OnnxModel
from .finite import check_outputs

if TYPE_CHECKING:
    from .sources import Reference

DEFAULT_TOLERANCE = 1e-5
# Eight times what rounding to 11 or 8 bits does to a number; and an activation that is rounded the other way.
_TOLERANCES = {"float16": 4e-3, "bfloat16": 3e-2, "int8": 1e-2}
# Another device sums in another order; ten times the error of rounding is still far from another answer.
_CUDA_FACTOR = 10
_GOLDEN_SAMPLES = 16


@dataclass(frozen=True)
class Comparison:
    """What was found, all of it within the tolerance."""

    golden: Golden
    """The first samples with the original's outputs."""
    max_abs_error: float | None
    """Largest absolute difference of an output element; None: there was nothing to compare with."""
    samples: int
    """How many samples were compared."""
    tolerance: float
    """Largest absolute difference of an output element that is accepted."""
    precision: str
    """What the model computes in."""


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
        reference: the original; None: ONNX Runtime's own outputs become the golden ones.
        inputs: tensors by name, samples along the first axis.
        labelled: the output whose highest element is the predicted label; None: there is none.
        tolerance: largest absolute difference of an output element that is accepted; None: what is usual for the
            precision, of the largest output where that is above 1.
        precision: what the model computes in.

    Raises:
        ParityError: an output differs by more, or a predicted label does, or there is NaN or an infinity.
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
            f"the exported model differs from the original by up to {worst:.3g} on {samples:,} samples, accepted is "
            f"{tolerance:.3g}; nothing was written: give --tolerance if you can accept that, "
            f"or replace the layers that do not convert exactly"
        )
    if labelled is not None:
        _check_labels(found[labelled], expected[labelled])
    return Comparison(golden, worst, samples, tolerance, precision)


def parity(comparison: Comparison) -> list[Parity]:
    """Returns the card's entries: what was measured on the CPU, and what a GPU will be held to."""
    precision, tolerance = comparison.precision, comparison.tolerance
    return [
        Parity(
            precision=precision,
            provider=CPU,
            tolerance=tolerance,
            max_abs_error=comparison.max_abs_error,
            samples=comparison.samples,
        ),
        Parity(precision=precision, provider=CUDA, tolerance=tolerance * _CUDA_FACTOR),
    ]


def _usual_tolerance(precision: str, outputs: Mapping[str, Array]) -> float:
    floats = [array.astype(np.float64) for array in outputs.values() if array.dtype.kind == "f"]
    largest = max((float(np.abs(array).max(initial=0.0)) for array in floats), default=0.0)
    # Floats are exact to a share of a number, not to a part of its unit; a card has three digits of it.
    return float(f"{_TOLERANCES.get(precision, DEFAULT_TOLERANCE) * max(1.0, largest):.3g}")


def first(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the samples of tensors by name that become golden ones."""
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
            f"the exported model predicts another label than the original for {len(other)} of {len(found):,} samples, "
            f"first for sample {other[0]}; nothing was written"
        )
