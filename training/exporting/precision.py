"""Compares an int8 version with its float32 model, and refuses it if it loses too much accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pixelserve.card import Card, Golden, Parity, Quantization, Reference
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
from .quantize import Calibration, quantize
from .samples import Samples
from .verify import first

if TYPE_CHECKING:
    from .sources import Source

FLOAT32 = "float32"
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
    say(f"comparing int8 with float32 on {samples.count:,} samples")
    before, after = model.run(samples.inputs), made.run(samples.inputs)
    check_outputs(after)
    was, now = (
        as_served(outputs[labelled].reshape(samples.count, -1), origin.labels, kind) for outputs in (before, after)
    )
    picture_of = pictures_in(next(iter(samples.inputs.values())), pictures)
    figures = measure(now, samples.labels, origin.labels, split=origin.split, picture_of=picture_of)
    accuracy = measure(was, samples.labels, origin.labels, split=origin.split).accuracy
    _check_loss(accuracy, figures.accuracy)
    quantization = Quantization(
        precision=INT8,
        original=Reference(framework=source.framework, version=source.framework_version),
        calibration_split=calibration.split,
        calibration_samples=calibration.count,
        float32_accuracy=accuracy,
        changed_labels=int((predictions(was) != predictions(now)).sum()),
        max_abs_error=_largest_difference(before, after),
        relative_bytes=round(len(content) / len(source.onnx), 4),
        relative_time=_relative_time(model, made, samples),
    )
    parity = _parity(content, after, samples.first(_KERNEL_SAMPLES))
    golden = Golden(first(samples.inputs), first(after))
    return Variant(replace(source, onnx=content), made, golden, figures, parity, quantization)


def _check_loss(before: float, after: float) -> None:
    # Exactly 0.3 points must not fail by a rounding error.
    if before - after > _MOST_LOSS + 1e-9:
        raise ParityError(
            f"int8 costs {(before - after) * 100:.2f} points of accuracy ({before:.2%} to {after:.2%}), more "
            f"than the accepted {_MOST_LOSS * 100:.1f}; nothing was written: omit --precision, or give other samples "
            f"to calibrate on"
        )


def _largest_difference(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    return max(float(np.abs(after[name].astype(np.float64) - before[name]).max(initial=0.0)) for name in before)


def _relative_time(before: OnnxModel, after: OnnxModel, samples: Samples) -> dict[str, float]:
    """Returns the median over rounds of the int8 version's time divided by the float32 model's, by batch size."""
    say("timing int8 and float32")
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
