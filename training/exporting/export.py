"""Exports a training run or any other trained model as a version in a model repository."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pixelserve.card import DataSet, sha256_of
from pixelserve.golden import Golden
from pixelserve.imaging import golden as golden_pictures

from .. import datasets, zoo
from ..datasets import hold_out
from ..errors import SourceError, UsageError
from ..measuring.challenge import Decision, Unseen
from ..measuring.published import Published
from ..progress import say
from ..running import checkpoint, interrupts, kept, runs
from ..runtime import OnnxModel, Tensor
from . import also, config, rows, sources
from .better import held_out_samples, labelled_samples, publish_if_better
from .converters.base import Conversion
from .evidence import Origin, evaluated, labelled_output, make_card, measure_model, own_labels
from .exported import Exported, Target
from .finite import check_weights
from .output_kind import Found, find
from .picture_input import Pictures
from .picture_line import asked_line, picture_line, served_pictures
from .precision import FLOAT16, INT8, against_float32, to_float16, to_int8
from .publish import Content, Slot, Version, check_siblings, choose_slot, publish
from .quantize import Calibration
from .samples import Samples, read_labels, read_samples
from .sources import Source
from .verify import Comparison, compare, default_tolerance

__all__ = ["Conversion", "Exported", "Target", "export_file", "export_run", "is_run"]

_RUN_PARITY_SAMPLES = 1000


def is_run(path: Path) -> bool:
    """Returns whether a path is a training run's folder.

    Raises:
        SourceError: the run is unfinished, or the folder holds several.
    """
    unfinished = path if path.exists() else checkpoint.folder_of(path)
    if (unfinished / checkpoint.STATE).is_file():
        raise SourceError(
            f"{unfinished} is an unfinished run: finish it with pixelserve train --resume, or export the .keras file "
            f"in it with --name and --labels"
        )
    if runs.holds_seeds(path):
        raise SourceError(
            f"{path} holds runs of several seeds; export the one named first, not the best: {runs.first_seed(path)}"
        )
    return runs.is_run(path)


@interrupts.terminable()
def export_run(run: Path, target: Target, *, data_dir: Path | None) -> Exported:
    """Exports a run of `pixelserve train`.

    Compares ONNX Runtime with the library that trained the model on 1,000 samples and measures the exported file on all
    samples of `evidence.evaluated`: held-out ones, a user's own test split, or all if there are too few for a split. In
    a regression the tolerance is multiplied by the largest training target. An int8 version is calibrated on training
    images. A run on a user's own images includes its samples, and the model is named after their folder. On any failure
    nothing is written.

    Args:
        run: the run's folder.
        target: the target version.
        data_dir: folder of the data set's official files; None downloads them with Keras.

    Raises:
        SourceError: the run's folder is damaged, or the run was trained on different data.
        UsageError: the target does not fit the model.
        DataError: the data set is not available.
        ParityError: the exported model computes something else than the original.
    """
    settings = runs.read_settings(run)
    own = kept.are_in(run)
    recipe = settings.own_recipe or _of_zoo(settings.recipe, own=own)
    name = settings.dataset if own and recipe.data is not None else settings.recipe
    slot = _slot(target, target.name or name)
    if own:
        dataset = kept.read(run, name=settings.dataset, sha256=settings.dataset_sha256)
    else:
        dataset = datasets.load(recipe.data or "", data_dir)
    if dataset.sha256 != settings.dataset_sha256:
        raise SourceError(f"{run} was trained on different {dataset.name} files; give the same --data-dir")
    say(f"converting {run}")
    source = sources.from_run(run, dataset.labels, conversion=target.conversion)
    model = OnnxModel(source.onnx, source=str(run))
    split, quoted, figures = evaluated(run, settings, dataset)
    origin = Origin(
        labels=dataset.labels,
        dataset=DataSet(name=dataset.name, sha256=dataset.sha256, note=dataset.note),
        split=split,
        # A user's pictures are learned as the run's options say, whatever a public data set's recipe declares.
        picture=settings.learner.get("picture", "") if own and recipe.data is not None else recipe.picture,
        recipe=settings.recipe,
        seed=settings.seed,
        temperature=runs.read_temperature(run),
        held_out=settings.held_out,
        hold_out=settings.hold_out,
        figures=figures,
    )
    unseen = held_out_samples(run, settings, dataset, model) if target.if_better else None
    samples = Samples({model.inputs[0].name: quoted.inputs}, quoted.targets)
    if dataset.task == "regression":
        # float32's precision is relative.
        largest = max(1.0, float(np.abs(dataset.train.targets).max()))
        target = replace(target, tolerance=(target.tolerance or default_tolerance(target.precision)) * largest)
    # Like every choice, ranges are chosen on data that no figure is measured on.
    learned = hold_out(dataset.train, settings.held_out)[0]
    calibration = Calibration.choose({model.inputs[0].name: learned.inputs}, "train")
    return _export(
        *(slot, source, model, samples, origin, target),
        calibration=calibration,
        parity_samples=_RUN_PARITY_SAMPLES,
        unseen=unseen,
    )


def _slot(target: Target, name: str) -> Slot:
    slot = choose_slot(target.repository, name, target.version)
    also.check(target.also, target.also_to, slot, if_better=target.if_better)
    return slot


def _of_zoo(name: str, *, own: bool) -> runs.OwnRecipe:
    if own:
        # A user's pictures: the run's folder has them.
        return runs.OwnRecipe(data="")
    recipe = zoo.find(name)
    return runs.OwnRecipe(data=str(recipe.dataset), picture=recipe.picture)


@interrupts.terminable()
def export_file(
    path: Path,
    target: Target,
    *,
    labels: Path | None,
    samples: Path | None,
    pixel_scale: float | None,
    pixel_offset: float = 0.0,
    size: tuple[int, ...] | None = None,
    keeps_floats: bool = False,
    picture: str | None = None,
    words: Mapping[str, str] = MappingProxyType({}),
) -> Exported:
    """Exports a .keras, .h5 or .onnx file, or a SavedModel folder.

    An int8 version is calibrated on the samples that it is measured on. On any failure nothing is written.

    Args:
        path: the file or folder.
        target: the target version, with the model's name.
        labels: a file with one class label per line; None uses the labels stored in the model, if any.
        samples: an .npz file of real inputs, in the format of `samples.read_samples`; None: nothing is compared or
            measured, and servers show the version as unverified.
        pixel_scale: the factor of pixels in the training of a Keras model or SavedModel; the exported model accepts
            raw pixels. None: it does so only if the model scales pixels itself.
        pixel_offset: added to the scaled pixels.
        size: image height and width for a model whose input does not define them; for a Keras model of flattened
            pixels, also the number of channels.
        keeps_floats: whether a model that scales pixels itself keeps its float input.
        picture: image preprocessing, in the syntax of docs/pictures.md; None: that of the model's framework, if known.
        words: additional settings of that line, by key.

    Raises:
        SourceError: the model cannot be read or converted.
        SamplesError: the samples or labels do not fit it.
        UsageError: the target does not fit the model.
        ParityError: the exported model computes something else than the original.
    """
    if target.name is None:
        missing = SourceError(f"{path}: no such file or folder")
        raise UsageError(f"{path}: name the model with --name") if path.exists() else missing
    slot = _slot(target, target.name)
    names = read_labels(labels) if labels is not None else ()
    is_onnx = sources.is_onnx(path)
    if is_onnx and size is not None:
        # The graph stays unchanged; the server resizes images.
        words, size = {**words, "size": "x".join(map(str, size))}, None
    picture = asked_line(picture, words, is_keras=not is_onnx)
    say(f"converting {path}")
    is_declared = picture is not None and not is_onnx
    pictures = Pictures(pixel_scale, pixel_offset, size, keeps_floats, is_declared)
    source = sources.read(path, pictures=pictures, labels=names, conversion=target.conversion)
    if source.is_classifier and not names:
        raise UsageError(f"{path} ends in a softmax, so it is a classifier: give its labels with --labels FILE")
    model = OnnxModel(path if source.weights else source.onnx, source=str(path))
    if source.reference is None and not model.batches:
        say(
            "note: not all of its tensors have a free first dimension, so each request runs separately; if its "
            "rows are independent, export it with a free first dimension (for PyTorch: dynamic_shapes=({0: 'batch'},))"
        )
    names = names or own_labels(model, source)
    given = read_samples(samples, model, names=names) if samples is not None else None
    dataset = DataSet(name=samples.name, sha256=sha256_of(samples)) if samples is not None else None
    origin = Origin(names, dataset, split="samples", picture=picture)
    unseen = labelled_samples(given) if target.if_better else None
    return _export(slot, source, model, given, origin, target, unseen=unseen)


def _export(
    slot: Slot,
    source: Source,
    model: OnnxModel,
    samples: Samples | None,
    origin: Origin,
    target: Target,
    *,
    calibration: Calibration | None = None,
    parity_samples: int | None = None,
    unseen: Unseen | None = None,
) -> Exported:
    labelled = labelled_output(model, origin.labels, target.output)
    picture = origin.picture
    if picture != "":
        picture = picture_line(picture, model, is_keras=source.reference is not None)
    config.check_batches(model, target.max_batch_size)
    check_siblings(slot, model, origin.labels, target.max_batch_size)
    asked = origin.picture is not None and origin.recipe is None
    pictures = served_pictures(picture, model, labelled, slot.model_folder / config.CONFIG_FILE, asked=asked)
    full = source, model
    if target.precision == FLOAT16:
        source, model = to_float16(source, model, samples, origin, calibration)
    comparison = None
    if samples is not None:
        # float16 may move a sample between two equally likely labels; its cost is measured in accuracy instead.
        compared = labelled if target.precision != FLOAT16 else None
        comparison = _compare(source, model, samples.first(parity_samples), compared, target.tolerance)
    golden = comparison.golden if comparison else None
    also.check_samples(target.also, golden)
    found = _output_kind(source, labelled, origin, golden, target)
    kind = found.kind if found else None
    config.check_output_kind(slot.model_folder / config.CONFIG_FILE, kind)
    int8 = None
    if target.precision == INT8:
        int8 = to_int8(source, model, samples, origin, labelled, calibration=calibration, kind=kind, pictures=pictures)
        source, model, golden = int8.source, int8.model, int8.golden
    figures = int8.figures if int8 else measure_model(model, samples, origin, labelled, kind, pictures)
    card = make_card(
        *(slot.model, source, model, origin),
        comparison=comparison,
        figures=figures,
        output_kind=kind,
        pictures=pictures,
    )
    if int8 is not None:
        card = int8.describe(card)
    if target.precision == FLOAT16 and samples is not None:
        quantization = against_float32(
            *(full, (source, model), samples, origin, labelled), calibration=calibration, kind=kind
        )
        card = card.model_copy(update={"quantization": quantization})
    other_files: dict[str, bytes] = {}
    if golden is not None and target.also:
        card, other_files = also.make_all(target.also, source, model, golden, card)
    proof = rows.prove(model, golden.inputs if golden else None, target.precision if int8 else source.precision)
    config_text = config.render(
        slot.model,
        model,
        labelled=labelled,
        picture=picture,
        max_batch_size=target.max_batch_size,
        output_kind=kind,
        merge=proof.state != "dependent",
    )
    version = Version(source.onnx, card, golden, golden_pictures.make(pictures) if pictures else None, source.weights)
    content = Content(version, config_text, origin.labels)
    candidate = Published(slot.folder, card, model, tuple(origin.labels), kind, labelled, pictures)
    with also.written(target.also_to, slot, other_files):
        slot, decision = _publish(slot, content, candidate, unseen, target)
    tensors = _described(model.inputs), _described(model.outputs)
    return Exported(slot, card, *tensors, found, proof, golden.samples if golden else 0, decision)


def _publish(
    slot: Slot, content: Content, candidate: Published, unseen: Unseen | None, target: Target
) -> tuple[Slot, Decision | None]:
    """Writes a version, with comparison samples only if it is better; returns its slot and the decision."""
    decision = None
    if unseen is None:
        publish(slot, content)
    else:
        slot, decision = publish_if_better(slot, content, candidate, unseen, is_chosen=target.version is not None)
    if decision is None or decision.publish:
        say(f"wrote {slot.folder}")
    return slot, decision


def _output_kind(
    source: Source, labelled: str | None, origin: Origin, golden: Golden | None, target: Target
) -> Found | None:
    """Returns the classes output's kind, or None without classes; refuses NaN weights."""
    if golden is None:
        check_weights(source.onnx)
    if labelled is None:
        return Found(target.output_kind, "--output-kind") if target.output_kind else None
    values = golden.outputs[labelled] if golden else None
    return find(source.onnx, labelled, len(origin.labels), values, target.output_kind)


def _compare(
    source: Source, model: OnnxModel, samples: Samples, labelled: str | None, tolerance: float | None
) -> Comparison:
    if source.reference is not None:
        say(f"comparing with {source.framework} on {samples.count:,} samples")
    return compare(
        model, source.reference, samples.inputs, labelled=labelled, tolerance=tolerance, precision=source.precision
    )


def _described(tensors: Sequence[Tensor]) -> list[str]:
    # NumPy represents strings of variable length as objects.
    kinds = ["string" if tensor.dtype == object else str(tensor.dtype) for tensor in tensors]
    return [f"{tensor.name} {kind} {list(tensor.shape)}" for tensor, kind in zip(tensors, kinds, strict=True)]
