"""A model version's evidence: card.json, golden.npz, and the replay of golden samples.

Training writes these files, and the server checks them before the version serves. This module requires pydantic, which
the extras `server` and `training` install.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from .arrays import ArraysError, read_arrays
from .external_data import MODEL_FILE as MODEL_FILE
from .external_data import ExternalDataError, external_hashes
from .external_data import sha256_of as sha256_of
from .figures import Baseline, Calibration, Evaluation, Part
from .precisions import RULES
from .scores import OutputKind
from .text import TextError, read_text

CARD_FILE = "card.json"
GOLDEN_FILE = "golden.npz"
GOLDEN_PICTURE_FILE = "golden-picture.npz"
SCHEMA_VERSION = 1
CARD_BYTES = 4 << 20
"""Maximum bytes of a card, which is sent whole in answers."""
GOLDEN_BYTES = 256 << 20
"""Maximum unpacked bytes of golden samples."""
GOLDEN_SAMPLES = 1024
"""Maximum number of golden samples: a session computes each twice before it serves."""

# The tolerance for float32 kernels of a provider without an entry in the card.
UNLISTED_TOLERANCE = 1e-3
# For the arrays' names, types and shapes.
_OVERHEAD_BYTES = 1 << 20

Task = Literal["image", "tabular", "regression", "unknown"]
"""A model's task: classes of pictures, classes of rows of a table, or values."""

Tensors = Mapping[str, npt.NDArray[np.generic]]

# A JSON array of numbers over several lines.
_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]*\]")


class CardError(Exception):
    """A card or golden file is unreadable or does not match; the message names the file and the remedy."""


class GoldenMismatchError(CardError):
    """The model did not reproduce its golden outputs."""


class Reference(Part):
    """The reference of the exported model."""

    framework: str = Field(description="name of the framework that gave the golden outputs, such as keras")
    version: str = Field(description="its version")


class DataSet(Part):
    """The data for training and evaluation."""

    name: str = Field(description="the data set's usual name")
    sha256: str = Field(description="hash over the names and bytes of its files, in hex")
    note: str = Field(default="", description="anything that makes its figures differ from published ones")


class Parity(Part):
    """How closely a provider must reproduce the golden outputs in a precision."""

    precision: str = Field(description="float32, int8, ...")
    provider: str = Field(description="ONNX Runtime's name of it, such as CPUExecutionProvider")
    tolerance: float = Field(description="largest absolute difference of an output element that is accepted", gt=0)
    max_abs_error: float | None = Field(default=None, description="largest one measured at export; None: not measured")
    samples: int = Field(default=0, description="how many samples it was measured on")


class Quantization(Part):
    """The float32 origin of an int8 or float16 version, and how the two compare; measured at export."""

    precision: str = Field(description="what weights and activations are: int8 or float16")
    original: Reference = Field(description="the framework that gave the float32 model, and was compared with that")
    calibration_split: str = Field(description="what the ranges of activations were found or checked on, such as train")
    calibration_samples: int = Field(description="how many samples that is", ge=1)
    compared_split: str | None = Field(
        default=None, description="the split that both were measured on; None: that of the evaluation, in an older card"
    )
    float32_accuracy: float = Field(description="accuracy of the float32 model on that split, a fraction of 1")
    changed_labels: int = Field(description="samples for which the two predict another label")
    max_abs_error: float = Field(description="largest absolute difference of an output element from float32's")
    relative_bytes: float = Field(description="size of the file divided by float32's")
    relative_time: dict[str, float] = Field(
        description="time of a sample divided by float32's, by batch size; on one thread of the CPU that exported it"
    )


class OtherFormat(Part):
    """The model in another runtime's format, written outside the repository, and how it compares with model.onnx."""

    format: str = Field(description="tflite or openvino")
    files: dict[str, str] = Field(description="SHA-256 in hex of each of its files, by name")
    runtime: str = Field(description="the library that ran it at export")
    runtime_version: str = Field(description="its version")
    tolerance: float = Field(description="largest absolute difference of an output element that was accepted", gt=0)
    max_abs_error: float = Field(description="largest one from ONNX Runtime's output")
    samples: int = Field(description="how many samples it was measured on", ge=1)


class Card(Part):
    """The evidence of a model version."""

    schema_version: Literal[1] = 1
    name: str
    task: Task = Field(description="unknown: neither the file nor its owner says")
    sha256: str = Field(description="of model.onnx, in hex: proves that the file is whole, not where it came from")
    external_data: dict[str, str] | None = Field(
        default=None,
        description="SHA-256 in hex of each file beside model.onnx that holds weights, by its path from there",
    )
    created: str = Field(description="time of the export, ISO 8601, UTC")
    reference: Reference | None = None
    dataset: DataSet | None = None
    evaluation: Evaluation | None = None
    calibration: Calibration | None = None
    baseline: Baseline | None = None
    parity: list[Parity] = Field(default_factory=list)
    quantization: Quantization | None = Field(default=None, description="None: float32, or not compared with it")
    other_formats: list[OtherFormat] = Field(default_factory=list, description="of the same model, kept elsewhere")
    output_kind: OutputKind | None = Field(default=None, description="what a classifier's output is; None: not known")
    picture: str | None = Field(
        default=None,
        description="the pictures that it was exported for, in the words of docs/pictures.md; None: not known, or none",
    )
    parameters: int | None = Field(default=None, description="weights in the model")
    opset: int | None = Field(default=None, description="version of ONNX's operator set in the file; None: not known")
    recipe: str | None = None
    seed: int | None = None
    held_out: float | None = Field(
        default=None, description="share of the training split that was never learned, a fraction of 1; None: not known"
    )
    hold_out: Literal["stratified"] | None = Field(
        default=None, description="how those samples were chosen; None: by an earlier release, which held out others"
    )
    versions: dict[str, str] = Field(default_factory=dict, description="version by library that had a hand in the file")

    def tolerance(self, provider: str) -> float:
        """Returns the largest absolute output difference accepted on `provider`.

        One that is not listed gets float32's; of a quantized model the largest listed, which covers other kernels.
        """
        listed = {entry.provider: entry.tolerance for entry in self.parity}
        others = max(listed.values(), default=0.0) if self.quantization is not None else 0.0
        return listed.get(provider, max(others, UNLISTED_TOLERANCE))

    def write(self, path: Path) -> None:
        """Writes the card as indented JSON, with each array of numbers on one line.

        Raises:
            CardError: it is too large.
        """
        indented = self.model_dump_json(indent=2, exclude_none=True) + "\n"
        text = _NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), indented)
        if (size := len(text.encode())) > CARD_BYTES:
            raise CardError(f"{path}: the card has {size:,} bytes; at most {CARD_BYTES:,} are read")
        path.write_text(text, encoding="utf-8")


def read_card(path: Path) -> Card:
    """Reads a card.

    Raises:
        CardError: the file is not a card of schema version 1; the first wrong field is named.
    """
    try:
        return Card.model_validate_json(read_text(path, CARD_BYTES))
    except TextError as error:
        raise CardError(f"{path}: the whole file: {error}, or export the model again") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise CardError(f"{path}: {field}: {first['msg']}; export the model again, or remove the card") from error


def verify_model_file(card: Card, model: Path) -> None:
    """Checks that the model file, and the files with its weights, are the card's.

    Raises:
        CardError: a file is different, damaged, or not in the card.
        OSError: a file is missing or cannot be read.
    """
    _verify(model, sha256_of(model), card.sha256)
    try:
        hashes = external_hashes(model)
    except ExternalDataError as error:
        raise CardError(f"{model}: {error}") from error
    for name, found in hashes.items():
        _verify(model.parent / name, found, (card.external_data or {}).get(name))


def _verify(path: Path, found: str, described: str | None) -> None:
    if described is None:
        raise CardError(f"{path}: holds weights of the model, and its card has no hash of it; export the version again")
    if found != described:
        raise CardError(
            f"{path}: SHA-256 is {found[:12]}…, its card says {described[:12]}…; "
            f"the file is damaged or not the one that was exported: copy the version again, or export it again"
        )


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
    found = infer(golden.inputs)
    worst = 0.0
    for name, expected in golden.outputs.items():
        if name not in found or found[name].shape != expected.shape:
            shape = found[name].shape if name in found else "no such output"
            raise GoldenMismatchError(f"output {name}: the golden shape is {expected.shape}, the model gave {shape}")
        worst = max(worst, largest_difference(found[name], expected))
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
    found = infer(golden.inputs)
    worst = 0.0
    for name, expected in golden.outputs.items():
        if name not in found or found[name].shape != expected.shape:
            shape = found[name].shape if name in found else "no such output"
            raise GoldenMismatchError(f"output {name}: the golden shape is {expected.shape}, the model gave {shape}")
        most, mean = _relative_differences(found[name], expected)
        if not (most <= rule.output and mean <= rule.mean):
            raise GoldenMismatchError(
                f"output {name} differs from its golden samples by up to {most:.3g} of its largest value, {mean:.3g} "
                f"on average; the rule of {precision} allows {rule.output:g} and {rule.mean:g}"
            )
        worst = max(worst, most)
    return worst


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
