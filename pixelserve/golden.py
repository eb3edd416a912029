"""Golden samples, golden.npz: a few real inputs with the reference framework's outputs, which a runtime must reproduce.

Training writes them, and the server replays them before the version serves.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .arrays import ArraysError, read_arrays
from .card import CardError
from .precisions import RULES

GOLDEN_BYTES = 256 << 20
"""Maximum unpacked bytes of golden samples."""
GOLDEN_SAMPLES = 1024
"""Maximum number of golden samples: a session computes each twice before it serves."""

# For the arrays' names, types and shapes.
_OVERHEAD_BYTES = 1 << 20

Tensors = Mapping[str, npt.NDArray[np.generic]]


class GoldenMismatchError(CardError):
    """The model did not reproduce its golden outputs."""


@dataclass(frozen=True)
class Golden:
    """A few real inputs with the reference framework's outputs."""

    inputs: dict[str, npt.NDArray[np.generic]]
    """Input tensors by name, each with samples along the first axis."""
    outputs: dict[str, npt.NDArray[np.generic]]
    """Output tensors by name, each with samples along the first axis."""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))


def write_golden(path: Path, golden: Golden) -> None:
    """Writes golden samples: arrays named `inputs/<tensor>` and `outputs/<tensor>` in a compressed npz.

    Writes only the first samples if there are more than can be read.

    Raises:
        CardError: a single sample is too large.
    """
    # NumPy would pickle an array of Python strings, and pickles are not read.
    arrays = {
        f"{group}/{name}": array.astype(str) if array.dtype == object else array
        for group, tensors in (("inputs", golden.inputs), ("outputs", golden.outputs))
        for name, array in tensors.items()
    }
    sample_bytes = max(1, sum(array.nbytes for array in arrays.values()) // max(1, golden.samples))
    kept = min(GOLDEN_SAMPLES, (GOLDEN_BYTES - _OVERHEAD_BYTES) // sample_bytes)
    if not kept:
        raise CardError(f"{path}: a golden sample has {sample_bytes:,} bytes; at most {GOLDEN_BYTES:,} are read")
    arrays = {key: array[:kept] for key, array in arrays.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # savez takes any keyword, its stub one flag more


def read_golden(path: Path) -> Golden:
    """Reads golden samples.

    Raises:
        CardError: the file is not an npz with at least one input and one output of equally many samples, or exceeds
            `GOLDEN_BYTES` or `GOLDEN_SAMPLES`.
        OSError: it cannot be read.
    """
    try:
        arrays = read_arrays(path, GOLDEN_BYTES)
    except ArraysError as error:
        raise CardError(f"{path}: cannot be read as golden samples: {error}; export the model again") from error
    golden = Golden({}, {})
    groups = {"inputs/": golden.inputs, "outputs/": golden.outputs}
    for key, array in arrays.items():
        if group := next((group for group in groups if key.startswith(group)), None):
            tensor = key.removeprefix(group)
            groups[group][tensor] = array.astype(object) if array.dtype.kind == "U" else array
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    known = len(golden.inputs) + len(golden.outputs)
    if not golden.inputs or not golden.outputs or known != len(arrays) or len(lengths) != 1 or 0 in lengths:
        raise CardError(
            f"{path}: expected arrays named inputs/<tensor> and outputs/<tensor>, all with the same number of samples; "
            f"export the model again"
        )
    if golden.samples > GOLDEN_SAMPLES:
        raise CardError(
            f"{path}: {golden.samples:,} samples; at most {GOLDEN_SAMPLES:,} are replayed; export the model again"
        )
    return golden


def replay(golden: Golden, infer: Callable[[Tensors], Tensors], tolerance: float) -> float:
    """Runs the golden inputs through `infer` and compares the outputs.

    Args:
        golden: the samples.
        infer: maps input tensors by name to at least the golden output tensors by name.
        tolerance: maximum absolute difference of an output element.

    Returns:
        The largest absolute difference.

    Raises:
        GoldenMismatchError: an output is missing, has another shape, or differs by more than `tolerance`.
    """
    compared = _replayed(golden, infer)
    worst = max((largest_difference(found, expected) for _, found, expected in compared), default=0.0)
    if worst > tolerance:
        raise GoldenMismatchError(
            f"golden outputs differ by up to {worst:.3g}, the tolerance is {tolerance:.3g}: "
            f"this runtime computes something else than the model that was exported; export it again with this runtime"
        )
    return worst


def replay_by_rule(golden: Golden, infer: Callable[[Tensors], Tensors], precision: str) -> float:
    """Like `replay`, by the rule of a precision that is less exact than the golden outputs (`precisions.RULES`).

    Args:
        golden: the samples.
        infer: maps input tensors by name to at least the golden output tensors by name.
        precision: what `infer` computes in.

    Returns:
        The largest difference, as a fraction of its output's largest magnitude.

    Raises:
        GoldenMismatchError: an output is missing, has another shape, or differs by more than the rule allows.
    """
    rule = RULES[precision]
    worst = 0.0
    for name, found, expected in _replayed(golden, infer):
        most, mean = _relative_differences(found, expected)
        if not (most <= rule.output and mean <= rule.mean):
            raise GoldenMismatchError(
                f"output {name} differs from what is expected by up to {most:.3g} of its largest value, {mean:.3g} on "
                f"average; the rule of {precision} allows {rule.output:g} and {rule.mean:g}"
            )
        worst = max(worst, most)
    return worst


def _replayed(
    golden: Golden, infer: Callable[[Tensors], Tensors]
) -> Iterator[tuple[str, npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
    """Yields each golden output's name, what `infer` gives for the golden inputs, and what is expected.

    Raises:
        GoldenMismatchError: an output is missing or has another shape.
    """
    found = infer(golden.inputs)
    for name, expected in golden.outputs.items():
        if name not in found or found[name].shape != expected.shape:
            shape = found[name].shape if name in found else "no such output"
            raise GoldenMismatchError(f"output {name}: the golden shape is {expected.shape}, the model gave {shape}")
        yield name, found[name], expected


def _relative_differences(found: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Returns the largest and the mean difference of elements, as fractions of the largest expected magnitude.

    Both are infinite if numbers that are not floats, or strings, differ at all, or if a NaN is on one side only.
    """
    if expected.dtype.kind != "f":
        return (0.0, 0.0) if np.array_equal(found, expected) else (np.inf, np.inf)
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(wide[~finite], other[~finite], equal_nan=True) or not np.isfinite(other[finite]).all():
        return np.inf, np.inf
    differences = np.abs(wide[finite] - other[finite])
    scale = float(np.abs(wide[finite]).max(initial=0.0)) or 1.0
    return float(differences.max(initial=0.0)) / scale, float(differences.mean() if differences.size else 0.0) / scale


def largest_difference(found: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> float:
    """Returns the largest absolute difference of two tensors' elements; infinite if strings differ or one is NaN.

    Memory: a few times that of a row, along the first axis.
    """
    if not np.issubdtype(expected.dtype, np.number):
        return 0.0 if np.array_equal(found, expected) else float("inf")
    if not expected.ndim:
        return _difference(found, expected)
    return max((_difference(*rows) for rows in zip(found, expected, strict=True)), default=0.0)


def _difference(found: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    # Equal infinities agree although their difference is NaN; any other NaN counts as an infinite difference.
    difference = np.where(found == expected, 0.0, np.nan_to_num(difference, nan=np.inf))
    return float(difference.max(initial=0.0))
