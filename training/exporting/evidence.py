"""Gathers a model version's evidence into its card."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pixelserve.card import Card, DataSet, Reference, Task, sha256_of
from pixelserve.imaging.spec import PictureSpec
from pixelserve.scores import OutputKind, is_single_unit

from ..errors import SamplesError, UsageError
from ..measuring.evaluate import Figures, Labels, as_served, measure, measure_regression
from ..measuring.pictures import pictures_in
from ..progress import say
from ..running import runs
from ..runtime import OnnxModel
from .finite import check_outputs
from .samples import Samples, can_be_listed
from .verify import Comparison, parity

if TYPE_CHECKING:
    from .sources import Source

_TABLE_AXES, _IMAGE_AXES = 2, 4
_CHANNELS = {1, 3, 4}
# By framework: what has a hand in the ONNX file of a model that this exports.
_KERAS = ("keras", "numpy", "onnx", "pixelserve", "tensorflow", "tf2onnx")
_LIBRARIES = {
    "keras": _KERAS,
    "tensorflow": _KERAS,
    "scikit-learn": ("numpy", "onnx", "pixelserve", "scikit-learn", "skl2onnx"),
    "numpy": ("numpy", "onnx", "pixelserve"),
}


@dataclass(frozen=True)
class Origin:
    """What is known of a model before it is exported."""

    labels: Sequence[str]
    """Its classes' names in index order; empty: its outputs are no classes."""
    dataset: DataSet | None
    """What it is measured on; None: nothing."""
    split: str
    """Which part of that it is measured on."""
    picture: str | None = None
    """What becomes of pictures that are sent to the served model, in the words of docs/pictures.md; None: not said."""
    recipe: str | None = None
    """The recipe that trained it; None: it is somebody else's."""
    seed: int | None = None
    """The seed that it was trained with."""
    temperature: float | None = None
    """What its logits are divided by for the sake of honest probabilities; None: nothing."""
    held_out: float | None = None
    """The share of the training split that it never learned, a fraction of 1; None: not known."""


def labelled_output(model: OnnxModel, labels: Sequence[str], named: str | None = None) -> str | None:
    """Returns the name of the output whose last dimension the labels name; None where there are no labels.

    Without a name it is the output called probabilities, else the only one that has a score for each label.

    Args:
        model: the exported model.
        labels: its classes' names in index order.
        named: the output that the user names; None: none.

    Raises:
        UsageError: the model has no output of that name, or there are no labels for it.
        SamplesError: no output fits the labels, or several do.
    """
    if named is not None:
        _check_named(model, labels, named)
    if not labels:
        return None
    floats = [tensor for tensor in model.outputs if tensor.dtype.kind == "f" and tensor.shape]
    if not floats:
        raise SamplesError("--labels: the model has no float output whose classes they could name; leave them out")
    candidates = [tensor for tensor in floats if tensor.name == (named or "probabilities")] or floats
    fitting = [tensor for tensor in candidates if _fits(tensor.shape[-1], len(labels))]
    if not fitting:
        raise SamplesError(
            f"{len(labels)} labels are given, but "
            + " and ".join(f"{tensor.name} has {tensor.shape[-1]} classes" for tensor in candidates)
        )
    # Rows of scores come before a sequence or a map of them, and a score for each label before one for two.
    rows = [tensor for tensor in fitting if len(model.sample_shape(tensor)) == 1] or fitting
    chosen = [tensor for tensor in rows if tensor.shape[-1] == len(labels)] or rows
    if len(chosen) > 1:
        raise SamplesError(
            f"the labels fit several outputs: {', '.join(tensor.name for tensor in chosen)}; "
            f"say which one they name with --output NAME"
        )
    return chosen[0].name


def _fits(columns: int, labels: int) -> bool:
    return columns in (-1, labels) or is_single_unit(columns, labels)


def _check_named(model: OnnxModel, labels: Sequence[str], named: str) -> None:
    kinds = {tensor.name: tensor.dtype for tensor in model.outputs}
    if named not in kinds:
        raise UsageError(f"--output {named}: the model has no such output; it has: {', '.join(kinds)}")
    if kinds[named].kind != "f":
        floats = ", ".join(name for name, dtype in kinds.items() if dtype.kind == "f") or "none"
        raise UsageError(f"--output {named} is {kinds[named]}, and scores are floats; outputs of floats: {floats}")
    if not labels:
        raise UsageError(f"--output {named} is the output whose classes labels name; give them with --labels FILE")


def own_labels(model: OnnxModel, source: "Source") -> tuple[str, ...]:
    """Returns the labels that a model itself holds: those that an output has a score for each of; otherwise none."""
    widths = {tensor.shape[-1] for tensor in model.outputs if tensor.dtype.kind == "f" and len(tensor.shape) > 1}
    fitting = [
        labels
        for labels in source.labels
        if can_be_listed(labels) and any(width == len(labels) or is_single_unit(width, len(labels)) for width in widths)
    ]
    return fitting[0] if len(fitting) == 1 else ()


def measure_model(
    model: OnnxModel,
    samples: Samples | None,
    origin: Origin,
    labelled: str | None,
    kind: OutputKind | None,
    pictures: PictureSpec | None = None,
) -> Figures | None:
    """Measures the exported model on all samples; returns None where there are none or their labels are not known.

    Raises:
        SamplesError: a sample's label is none of the model's.
        ParityError: it gives NaN or an infinity for a sample.
    """
    if samples is None or samples.labels is None:
        return None
    if labelled is None:
        (inputs,), values = samples.inputs.values(), model.run(samples.inputs)[model.outputs[0].name]
        return measure_regression(values, samples.labels, split=origin.split, inputs=inputs)
    check_range(samples.labels, origin.labels)
    say(f"measuring on {len(samples.labels):,} samples")
    outputs = model.run(samples.inputs)
    check_outputs(outputs)
    scores = outputs[labelled]
    rows = as_served(scores.reshape(len(samples.labels), -1), origin.labels, kind)
    return measure(
        *(rows, samples.labels, origin.labels),
        split=origin.split,
        temperature=origin.temperature,
        picture_of=pictures_in(next(iter(samples.inputs.values())), pictures),
    )


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
    output_kind: OutputKind | None = None,
    pictures: PictureSpec | None = None,
) -> Card:
    """Returns the card of a version.

    Args:
        name: the model's name.
        source: the original and its ONNX file.
        model: that file, loaded.
        origin: what was known beforehand.
        comparison: of the exported model with the original; None: there was none.
        figures: measured on the exported model; None: there are none.
        output_kind: what a classifier's output is; None: not known.
        pictures: what it will be served with; None: it takes none.
    """
    return Card(
        name=name,
        task=_task(source, model, origin),
        sha256=hashlib.sha256(source.onnx).hexdigest(),
        external_data={file.name: sha256_of(file) for file in source.weights} or None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reference=_reference(source, comparison),
        dataset=origin.dataset,
        evaluation=figures.evaluation if figures else None,
        calibration=figures.calibration if figures else None,
        baseline=figures.baseline if figures else None,
        parity=parity(comparison) if comparison else [],
        output_kind=output_kind,
        picture=str(pictures) if pictures else None,
        parameters=source.parameters,
        recipe=origin.recipe,
        seed=origin.seed,
        held_out=origin.held_out,
        versions=_made_with(source) | (runs.library_versions(("pillow",)) if pictures else {}),
    )


def _reference(source: "Source", comparison: Comparison | None) -> Reference | None:
    if source.reference is None and comparison is None:
        # A model that came as ONNX has golden outputs of ONNX Runtime's; without samples there are none.
        return None
    return Reference(framework=source.framework, version=source.framework_version)


def _made_with(source: "Source") -> dict[str, str]:
    """Returns the version by library that had a hand in the ONNX file; what a file does not say is left out."""
    libraries = _LIBRARIES.get(source.framework)
    return dict(source.made_with) if libraries is None else runs.library_versions(libraries)


def _task(source: "Source", model: OnnxModel, origin: Origin) -> Task:
    if not origin.labels:
        return "regression" if origin.recipe is not None or source.is_regression else "unknown"
    if all(len(tensor.shape) <= _TABLE_AXES and tensor.dtype.kind != "i" for tensor in model.inputs):
        return "tabular"
    (shape, *others) = [tensor.shape for tensor in model.inputs]
    is_image = not others and len(shape) == _IMAGE_AXES and {shape[1], shape[-1]} & _CHANNELS
    return "image" if is_image else "unknown"
