"""Gathers a model version's evidence into its card."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pixelserve.card import Card, DataSet, Reference

from ..errors import SamplesError
from ..measuring.evaluate import Figures, Labels, measure, measure_regression
from ..progress import say
from ..running import runs
from ..runtime import OnnxModel
from .samples import Samples
from .verify import Comparison, parity

if TYPE_CHECKING:
    from .sources import Source


@dataclass(frozen=True)
class Origin:
    """What is known of a model before it is exported."""

    labels: Sequence[str]
    """Its classes' names in index order; empty: its outputs are no classes."""
    dataset: DataSet | None
    """What it is measured on; None: nothing."""
    split: str
    """Which part of that it is measured on."""
    inversion: str = "never"
    """Whether pictures sent to the served model are inverted: never, always, or auto."""
    recipe: str | None = None
    """The recipe that trained it; None: it is somebody else's."""
    seed: int | None = None
    """The seed that it was trained with."""
    temperature: float | None = None
    """What its logits are divided by for the sake of honest probabilities; None: nothing."""


def labelled_output(model: OnnxModel, labels: Sequence[str]) -> str | None:
    """Returns the name of the output whose last dimension the labels name; None where there are no labels.

    Where there are several float outputs, it is the one called probabilities, else the first.

    Raises:
        SamplesError: no output fits the labels.
    """
    if not labels:
        return None
    floats = [tensor for tensor in model.outputs if tensor.dtype.kind == "f" and tensor.shape]
    if not floats:
        raise SamplesError("--labels: the model has no float output whose classes they could name; leave them out")
    output = next((tensor for tensor in floats if tensor.name == "probabilities"), floats[0])
    if output.shape[-1] not in (-1, len(labels)):
        raise SamplesError(f"{len(labels)} labels are given, but {output.name} has {output.shape[-1]} classes")
    return output.name


def measure_model(model: OnnxModel, samples: Samples | None, origin: Origin, labelled: str | None) -> Figures | None:
    """Measures the exported model on all samples; returns None where there are none or their labels are not known.

    Raises:
        SamplesError: a sample's label is none of the model's.
    """
    if samples is None or samples.labels is None:
        return None
    if labelled is None:
        (inputs,), values = samples.inputs.values(), model.run(samples.inputs)[model.outputs[0].name]
        return measure_regression(values, samples.labels, split=origin.split, inputs=inputs)
    check_range(samples.labels, origin.labels)
    say(f"measuring on {len(samples.labels):,} samples")
    scores = model.run(samples.inputs)[labelled]
    rows = scores.reshape(len(samples.labels), -1)
    return measure(rows, samples.labels, origin.labels, split=origin.split, temperature=origin.temperature)


def check_range(labels: Labels, names: Sequence[str]) -> None:
    """Checks that samples' labels, integers [N], are indices of a model's.

    Raises:
        SamplesError: one is not.
    """
    # A single score tells two classes apart.
    classes = max(len(names), 2)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise SamplesError(f"a sample's label is {wrong}; expected 0 to {classes - 1}, its index in the model's labels")


def make_card(
    name: str,
    source: "Source",
    model: OnnxModel,
    origin: Origin,
    *,
    comparison: Comparison | None,
    figures: Figures | None,
    tolerance: float,
) -> Card:
    """Returns the card of a version.

    Args:
        name: the model's name.
        source: the original and its ONNX file.
        model: that file, loaded.
        origin: what was known beforehand.
        comparison: of the exported model with the original; None: there was none.
        figures: measured on the exported model; None: there are none.
        tolerance: what the comparison was held to.
    """
    return Card(
        name=name,
        task=_task(model, origin),
        sha256=hashlib.sha256(source.onnx).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reference=Reference(framework=source.framework, version=source.framework_version),
        dataset=origin.dataset,
        evaluation=figures.evaluation if figures else None,
        calibration=figures.calibration if figures else None,
        baseline=figures.baseline if figures else None,
        parity=parity(comparison, tolerance) if comparison else [],
        parameters=source.parameters,
        recipe=origin.recipe,
        seed=origin.seed,
        versions=runs.library_versions(),
    )


def _task(model: OnnxModel, origin: Origin) -> Literal["image", "tabular", "regression"]:
    if not origin.labels:
        return "regression"
    return "image" if len(model.inputs[0].shape) > 2 else "tabular"
