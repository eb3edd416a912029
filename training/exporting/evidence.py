"""Collects a version's evidence in its card."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pixelserve.card import Card, DataSet, Reference, Task, sha256_of
from pixelserve.imaging.spec import PictureSpec
from pixelserve.scores import OutputKind, is_single_unit

from ..datasets import Dataset, Split, SplitName, hold_out
from ..errors import SamplesError, SourceError, UsageError
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


@dataclass(frozen=True)
class Origin:
    """Provenance and settings of a model before its export."""

    labels: Sequence[str]
    """Class names in index order; empty if its outputs are not classes."""
    dataset: DataSet | None
    """The data set that it is measured on, or None."""
    split: str
    """The split that it is measured on."""
    picture: str | None = None
    """Image preprocessing of the served model, in the syntax of docs/pictures.md, or None."""
    recipe: str | None = None
    """The recipe that trained it, or None for other models."""
    seed: int | None = None
    """Its training seed."""
    temperature: float | None = None
    """The calibration temperature that divides its logits, or None."""
    held_out: float | None = None
    """The held-out share of the training split, a fraction of 1, or None if unknown."""
    hold_out: Literal["stratified"] | None = None
    """How the held-out samples were chosen, or None if unknown."""
    figures: Figures | None = None
    """Figures of networks of the same settings, if this one learned all samples; None: it is measured itself."""


def evaluated(run: Path, settings: runs.Settings, dataset: Dataset) -> tuple[SplitName, Split, Figures | None]:
    """Returns the split that a run's exported file is measured on, and figures of other networks in its place, if any.

    A final network learned all training samples, and so did that of a cross-validated run that held out none: the
    samples then serve for comparisons with the original only, and the figures are those of networks of the same
    settings that did not learn them. The test split of a data set that seals it is not read.

    Args:
        run: the run's folder.
        settings: its settings.
        dataset: its data set.

    Raises:
        SourceError: the run's figures are damaged, or it is of an earlier release, which held out other samples.
    """
    split, samples = dataset.quoted(settings.held_out)
    if split == "validation" and settings.hold_out is None:
        raise SourceError(
            f"{run} is a run of an earlier release, which held out other samples: what is held out today, it has "
            f"learned; train again"
        )
    if split != "training":
        return split, samples, None
    if settings.chosen_by is not None:
        samples = hold_out(dataset.train, settings.chosen_by.held_out)[1] if settings.chosen_by.held_out else samples
    elif not settings.learner.get("folds"):
        return split, samples, None
    others = (figures for name, figures in runs.read_figures(run).items() if name != "training")
    return split, samples, next(others, None)


def labelled_output(model: OnnxModel, labels: Sequence[str], named: str | None = None) -> str | None:
    """Returns the name of the output whose last dimension the labels name, or None without labels.

    By default it is the output called `probabilities`, else the only one with a score per label.

    Args:
        model: the exported model.
        labels: class names in index order.
        named: the output that the user chose, or None.

    Raises:
        UsageError: the model has no such output, or there are no labels for it.
        SamplesError: no output fits the labels, or several do.
    """
    if named is not None:
        _check_named(model, labels, named)
    if not labels:
        return None
    floats = [tensor for tensor in model.outputs if tensor.dtype.kind == "f" and tensor.shape]
    if not floats:
        raise SamplesError("--labels: the model has no float output for labels; omit the option")
    candidates = [tensor for tensor in floats if tensor.name == (named or "probabilities")] or floats
    fitting = [tensor for tensor in candidates if _fits(tensor.shape[-1], len(labels))]
    if not fitting:
        raise SamplesError(
            f"{len(labels)} labels are given, but "
            + " and ".join(f"{tensor.name} has {tensor.shape[-1]} classes" for tensor in candidates)
        )
    # Prefer rows of scores to a sequence or map of them, and a score per label to one score for two.
    rows = [tensor for tensor in fitting if len(model.sample_shape(tensor)) == 1] or fitting
    chosen = [tensor for tensor in rows if tensor.shape[-1] == len(labels)] or rows
    if len(chosen) > 1:
        raise SamplesError(
            f"the labels fit several outputs: {', '.join(tensor.name for tensor in chosen)}; "
            f"choose one with --output NAME"
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
    """Returns the labels stored in a model, if an output has a score for each."""
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
    """Measures the exported model on all samples; returns None without samples or labels.

    Returns other networks' figures if the model learned all samples.

    Raises:
        SamplesError: a sample's label is not one of the model's.
        ParityError: an output is NaN or infinite.
    """
    if origin.figures is not None:
        return origin.figures
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
    """Checks that samples' labels, integers [N], are indices of the model's labels.

    Raises:
        SamplesError: one is not.
    """
    # A single score distinguishes two classes.
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
        origin: its provenance and settings.
        comparison: of the exported model with the original, or None.
        figures: measured on the exported model, or None.
        output_kind: the kind of a classifier's output, or None if unknown.
        pictures: its image preprocessing, or None if it accepts no images.
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
        opset=source.opset,
        recipe=origin.recipe,
        seed=origin.seed,
        held_out=origin.held_out,
        hold_out=origin.hold_out,
        versions=dict(source.made_with) | (runs.library_versions(("pillow",)) if pictures else {}),
    )


def _reference(source: "Source", comparison: Comparison | None) -> Reference | None:
    if source.reference is None and comparison is None:
        # For ONNX sources, ONNX Runtime computes the golden outputs; without samples there are none.
        return None
    return Reference(framework=source.framework, version=source.framework_version)


def _task(source: "Source", model: OnnxModel, origin: Origin) -> Task:
    if not origin.labels:
        return "regression" if origin.recipe is not None or source.is_regression else "unknown"
    if all(len(tensor.shape) <= _TABLE_AXES and tensor.dtype.kind != "i" for tensor in model.inputs):
        return "tabular"
    (shape, *others) = [tensor.shape for tensor in model.inputs]
    is_image = not others and len(shape) == _IMAGE_AXES and {shape[1], shape[-1]} & _CHANNELS
    return "image" if is_image else "unknown"
