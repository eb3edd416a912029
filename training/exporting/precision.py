"""Compares int8 and float16 versions with their float32 model, and refuses them if they lose too much accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pixelserve.card import Card, Parity, Quantization, Reference
from pixelserve.golden import Golden
from pixelserve.imaging.spec import PictureSpec
from pixelserve.precisions import RULES
from pixelserve.scores import OutputKind

from .. import runtime
from ..errors import ParityError, UsageError
from ..measuring import timing
from ..measuring.evaluate import Figures, as_served, measure, predictions
from ..measuring.pictures import pictures_in
from ..progress import say
from ..runtime import CPU, CUDA, Array, OnnxModel
from .evidence import Origin, check_range
from .finite import check_outputs
from .half import halve
from .quantize import Calibration, quantize
from .samples import Samples
from .verify import first

if TYPE_CHECKING:
    from .sources import Source

FLOAT32 = "float32"
FLOAT16 = "float16"
INT8 = "int8"

# Of accuracy, a fraction of 1.
_MOST_LOSS = RULES["int8"].accuracy
_KERNEL_SAMPLES = 1000
_HEADROOM = 4
# An activation rounded the other way moved a probability of mnist-cnn by up to 0.002 in 10,000 images.
_LEAST_TOLERANCE = 0.01


@dataclass(frozen=True)
class Variant:
    """An int8 version with its evidence."""

    source: "Source"
    """The original, with the int8 ONNX file."""
    model: OnnxModel
    """That file, loaded."""
    golden: Golden
    """A few inputs with the int8 version's own outputs."""
    figures: Figures
    """Measured on it."""
    parity: list[Parity]
    """The tolerances of its golden outputs."""
    quantization: Quantization
    """The comparison with the float32 model."""

    def describe(self, card: Card) -> Card:
        """Returns a card with the fields of an int8 version replaced."""
        # Golden outputs verify that a server computes the exported model. Rounding takes some outputs so far from
        # the original's (`max_abs_error`) that a tolerance for those would let nearly anything pass: they are its own.
        reference = Reference(framework="onnxruntime", version=runtime.version())
        changed = {
            "reference": reference,
            "parity": self.parity,
            "quantization": self.quantization,
            "versions": card.versions | {"onnxruntime": runtime.version()},
        }
        return card.model_copy(update=changed)


def to_int8(
    source: "Source",
    model: OnnxModel,
    samples: Samples | None,
    origin: Origin,
    labelled: str | None,
    *,
    calibration: Calibration | None,
    kind: OutputKind | None = None,
    pictures: PictureSpec | None = None,
) -> Variant:
    """Quantises a float32 classifier and compares both.

    Args:
        source: the original, with the float32 ONNX file.
        model: that file, loaded.
        samples: labelled samples to measure both on.
        origin: provenance and settings of the model.
        labelled: the output whose classes the labels name.
        calibration: samples for the ranges of activations; None uses `samples`.
        kind: the kind of the output, or None if unknown.
        pictures: its image preprocessing, or None if it accepts no images.

    Raises:
        UsageError: there are no labelled samples, or the model has nothing to quantise.
        SamplesError: a sample's label is not one of the model's.
        SourceError: ONNX Runtime cannot quantise it.
        ParityError: accuracy falls by more than 0.3 points.
    """
    if labelled is None:
        raise UsageError(
            "--precision int8 is for classifiers, because its cost is measured in accuracy; omit the option"
        )
    if samples is None or samples.labels is None:
        raise UsageError(
            "--precision int8 needs inputs to calibrate on, and labels to measure its cost; "
            "give x and y with --samples FILE.npz"
        )
    if source.weights:
        raise UsageError("--precision int8 is for models in one file, below 2 GB; omit the option")
    check_range(samples.labels, origin.labels)
    calibration = calibration or Calibration.choose(samples.inputs, origin.split)
    content = quantize(source.onnx, model, calibration, source=origin.recipe or "the model")
    made = OnnxModel(content, source="the int8 version")
    before, after = _Version(source, model), _Version(replace(source, onnx=content), made)
    figures, quantization, outputs = _against_float32(
        *(INT8, before, after, samples, origin, labelled, calibration), kind=kind, pictures=pictures
    )
    parity = _parity(content, outputs, samples.first(_KERNEL_SAMPLES))
    golden = Golden(first(samples.inputs), first(outputs))
    return Variant(after.source, made, golden, figures, parity, quantization)


def to_float16(
    source: "Source", model: OnnxModel, samples: Samples | None, origin: Origin, calibration: Calibration | None
) -> tuple["Source", OnnxModel]:
    """Converts a float32 model to float16.

    Args:
        source: the original, with the float32 ONNX file.
        model: that file, loaded.
        samples: real inputs; outputs are compared on them afterwards, like those of any export.
        origin: provenance and settings of the model.
        calibration: samples whose values must fit; None uses `samples`.

    Returns:
        The source of the float16 version and its loaded file; its reference is the original.

    Raises:
        UsageError: there are no samples, or the model is not in float32 and in one file.
        ParityError: a value does not fit into float16.
        SourceError: ONNX Runtime cannot convert it.
    """
    if samples is None:
        raise UsageError(
            "--precision float16 needs inputs, to find values that do not fit into it; give x, and for the accuracy y, "
            "with --samples FILE.npz"
        )
    if source.weights or source.precision != FLOAT32:
        raise UsageError("--precision float16 is for float32 models in one file, below 2 GB; omit the option")
    calibration = calibration or Calibration.choose(samples.inputs, origin.split)
    content = halve(source.onnx, model, calibration, source=origin.recipe or "the model")
    reference = source.reference or model.run
    made = OnnxModel(content, source="the float16 version")
    return replace(source, onnx=content, reference=reference, precision=FLOAT16), made


def against_float32(
    before: tuple["Source", OnnxModel],
    after: tuple["Source", OnnxModel],
    samples: Samples,
    origin: Origin,
    labelled: str | None,
    *,
    calibration: Calibration | None,
    kind: OutputKind | None = None,
) -> Quantization | None:
    """Returns how a float16 version compares with its float32 model; None without classes and labels.

    Args:
        before: the float32 model.
        after: its float16 version.
        samples: the samples to measure both on.
        origin: provenance and settings of the model.
        labelled: the output whose classes the labels name.
        calibration: the samples of `to_float16`.
        kind: the kind of the output, or None if unknown.

    Raises:
        SamplesError: a sample's label is not one of the model's.
        ParityError: accuracy falls by more than 0.3 points.
    """
    if labelled is None or samples.labels is None:
        return None
    check_range(samples.labels, origin.labels)
    calibration = calibration or Calibration.choose(samples.inputs, origin.split)
    versions = _Version(*before), _Version(*after)
    return _against_float32(FLOAT16, *versions, samples, origin, labelled, calibration, kind=kind)[1]


@dataclass(frozen=True)
class _Version:
    source: "Source"
    model: OnnxModel


def _against_float32(
    precision: str,
    before: _Version,
    after: _Version,
    samples: Samples,
    origin: Origin,
    labelled: str,
    calibration: Calibration,
    *,
    kind: OutputKind | None,
    pictures: PictureSpec | None = None,
) -> tuple[Figures, Quantization, dict[str, Array]]:
    """Returns the figures of a version, how it compares with float32, and its outputs for all samples."""
    labels = np.asarray(samples.labels)
    say(f"comparing {precision} with float32 on {samples.count:,} samples")
    outputs = before.model.run(samples.inputs), after.model.run(samples.inputs)
    check_outputs(outputs[1])
    was, now = (as_served(each[labelled].reshape(samples.count, -1), origin.labels, kind) for each in outputs)
    picture_of = pictures_in(next(iter(samples.inputs.values())), pictures)
    figures = measure(now, labels, origin.labels, split=origin.split, picture_of=picture_of)
    accuracy = measure(was, labels, origin.labels, split=origin.split).accuracy
    _check_loss(precision, accuracy, figures.accuracy)
    quantization = Quantization(
        precision=precision,
        original=Reference(framework=before.source.framework, version=before.source.framework_version),
        calibration_split=calibration.split,
        calibration_samples=calibration.count,
        compared_split=origin.split,
        float32_accuracy=accuracy,
        changed_labels=int((predictions(was) != predictions(now)).sum()),
        max_abs_error=_largest_difference(*outputs),
        relative_bytes=round(len(after.source.onnx) / len(before.source.onnx), 4),
        relative_time=_relative_time(before.model, after.model, samples, precision),
    )
    return figures, quantization, outputs[1]


def _check_loss(precision: str, before: float, after: float) -> None:
    # Exactly 0.3 points must not fail by a rounding error.
    if before - after > _MOST_LOSS + 1e-9:
        raise ParityError(
            f"{precision} costs {(before - after) * 100:.2f} points of accuracy ({before:.2%} to {after:.2%}), more "
            f"than the accepted {_MOST_LOSS * 100:.1f}; nothing was written: omit --precision"
            f"{', or give other samples to calibrate on' if precision == INT8 else ''}"
        )


def _largest_difference(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    return max(float(np.abs(after[name].astype(np.float64) - before[name]).max(initial=0.0)) for name in before)


def _relative_time(before: OnnxModel, after: OnnxModel, samples: Samples, precision: str) -> dict[str, float]:
    """Returns the median over rounds of a version's time divided by the float32 model's, by batch size."""
    say(f"timing {precision} and float32")
    found = {}
    for size in timing.batch_sizes(before):
        times_s = timing.sample_times_s([(before, samples.inputs), (after, samples.inputs)], size)
        found[str(size)] = round(float(np.median(times_s[:, 1] / times_s[:, 0])), 3)
    return found


def _parity(content: bytes, outputs: Mapping[str, Array], samples: Samples) -> list[Parity]:
    """Returns the card's tolerances, from the difference to another kind of kernel.

    A provider without integer kernels, such as CUDA, computes in floats between roundings, like ONNX Runtime on the CPU
    without merged nodes. Sums then differ in their last bits, and occasionally an activation is rounded the other way.
    """
    floats = OnnxModel(content, source="the int8 version", as_written=True).run(samples.inputs)
    error = _largest_difference(floats, {name: array[: samples.count] for name, array in outputs.items()})
    tolerance = max(_HEADROOM * error, _LEAST_TOLERANCE)
    measured = Parity(precision=INT8, provider=CPU, tolerance=tolerance, max_abs_error=error, samples=samples.count)
    return [measured, Parity(precision=INT8, provider=CUDA, tolerance=tolerance)]
