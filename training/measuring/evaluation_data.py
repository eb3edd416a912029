"""The data to measure an exported version on again: its card's data set, or a user's samples."""

from dataclasses import dataclass
from pathlib import Path

from pixelserve.card import DataSet, sha256_of

from .. import datasets
from ..datasets import Dataset, Split, hold_out
from ..errors import SamplesError, UsageError
from ..exporting.evidence import check_range, labelled_output
from ..exporting.samples import read_samples, read_targets
from ..running import kept
from ..runtime import Array
from .published import Published


@dataclass(frozen=True)
class EvaluationData:
    """Samples with their labels or values."""

    inputs: dict[str, Array]
    """Input tensors by name, samples along the first axis."""
    targets: Array
    """Label indices, integers [N]; for a regression values, floats [N, values]."""
    labels: tuple[str, ...]
    """Class names in index order; empty for a regression."""
    output: str
    """The predicting output."""
    dataset: DataSet
    """The source of the samples."""
    split: str
    """The split of that source."""
    is_sealed: bool = False
    """Whether it is a test split of which each reading is logged."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.targets)


def from_dataset(version: Published, data_dir: Path | None, split: str | None = None) -> EvaluationData:
    """Returns samples of a card's data set.

    Args:
        version: the version.
        data_dir: folder of the data set's official files; None downloads them with Keras.
        split: test, or validation: the samples that its run held out; None: the split of the card's figures.

    Raises:
        UsageError: the card names no data set, or an unknown one; the version has learned the split, or there is none.
        DataError: the data set is not available.
        SamplesError: its samples or labels do not match the model's.
    """
    dataset = datasets.load(known_dataset(version), data_dir)
    source = DataSet(name=dataset.name, sha256=dataset.sha256, note=dataset.note)
    if version.labels and version.labels != dataset.labels:
        raise SamplesError(
            f"{version.title}: its labels.txt has {_listing(version.labels)}, {dataset.name} has "
            f"{_listing(dataset.labels)}; give inputs x and labels y that fit with --samples FILE.npz"
        )
    split, samples = _samples(version, dataset, split or _split_of_card(version, dataset))
    inputs, targets = samples.inputs, samples.targets
    _check_inputs(version, dataset.name, inputs)
    if version.card.task == "regression":
        targets = targets.reshape(len(targets), -1)
    output = _output(version, dataset.labels)
    return EvaluationData(
        {version.model.inputs[0].name: inputs},
        targets,
        dataset.labels,
        output,
        source,
        split,
        dataset.sealed and split == "test",
    )


def from_file(version: Published, path: Path) -> EvaluationData:
    """Returns the samples of an .npz file: inputs x and labels y, or for a regression values y.

    Those that a run kept are of its data set, so a card's figures can be compared with theirs.

    Raises:
        SamplesError: the file is unreadable, has no labels, or does not fit the model; or the model has no labels.txt.
    """
    classifies = version.card.task in ("image", "tabular") or bool(version.labels)
    if classifies and not version.labels:
        raise SamplesError(
            f"{version.folder.parent}: no labels.txt beside the version; write one, with one class label per line"
        )
    samples = read_samples(path, version.model, names=version.labels if classifies else ())
    sha256, split = kept.origin(path) or (sha256_of(path), "samples")
    source = DataSet(name=path.name, sha256=sha256)
    if not classifies:
        targets = read_targets(path, samples.count)
        return EvaluationData(samples.inputs, targets, (), _output(version, ()), source, split)
    if samples.labels is None:
        raise SamplesError(f"{path}: no array y with the samples' labels, which are needed to measure; add it")
    check_range(samples.labels, version.labels)
    output = _output(version, version.labels)
    return EvaluationData(samples.inputs, samples.labels, version.labels, output, source, split)


def known_dataset(version: Published) -> str:
    """Returns the name of a card's data set, for `datasets.load`.

    Raises:
        UsageError: the card names none, or an unknown one.
    """
    claimed = version.card.dataset
    known = {_plain(name): name for name in datasets.NAMES}
    if claimed is not None and _plain(claimed.name) in known:
        return known[_plain(claimed.name)]
    says = "names no data set" if claimed is None else f'names the data set "{claimed.name}"'
    raise UsageError(
        f"{version.title}: its card {says}, and only {', '.join(sorted(known.values()))} can be loaded by name; "
        f"give inputs x and labels y with --samples FILE.npz"
    )


def _split_of_card(version: Published, dataset: Dataset) -> str:
    evaluation = version.card.evaluation
    if evaluation is None or evaluation.split == "samples":
        return dataset.quoted(version.held_out)[0]
    if evaluation.choice_run is not None or evaluation.split == "cross-validation":
        of = "the run that chose its settings" if evaluation.choice_run else "a cross-validation"
        raise UsageError(
            f"{version.title}: its card has the figures of {of}, on samples that this model has learned as well; "
            f"measure it with --split test, or on new samples with --samples FILE.npz"
        )
    return evaluation.split


def _samples(version: Published, dataset: Dataset, split: str) -> tuple[str, Split]:
    if split == "test":
        if not dataset.has_test:
            raise UsageError(f"{dataset.name} has no test split, for it has too few samples; omit --split")
        return split, dataset.test
    if split == "training":
        return split, dataset.train
    if split != "validation":
        raise UsageError(f"{version.title}: the split {split} cannot be measured again; give --split test")
    unseen = hold_out(dataset.train, version.held_out)[1]
    if not len(unseen):
        raise UsageError(
            f"{version.title}: its card does not say that it left out any of today's held-out samples of "
            f"{dataset.name}, so it may have learned all of them; measure it with --split test, or with --samples "
            f"FILE.npz"
        )
    return split, unseen


def _plain(name: str) -> str:
    # A card has the usual name, such as Fashion-MNIST; `datasets.load` uses lower case and other hyphens.
    return "".join(char for char in name.lower() if char.isalnum())


def _check_inputs(version: Published, name: str, inputs: Array) -> None:
    tensor, *others = version.model.inputs
    expected = version.model.sample_shape(tensor)
    shape = inputs.shape[1:]
    fits = len(shape) == len(expected) and all(size in (-1, found) for size, found in zip(expected, shape, strict=True))
    if others or not fits or inputs.dtype != tensor.dtype:
        raise SamplesError(
            f"{version.title} takes {tensor.dtype} {list(expected)} for {tensor.name}, {name} has {inputs.dtype} "
            f"{list(shape)}; give inputs that fit with --samples FILE.npz"
        )


def _output(version: Published, labels: tuple[str, ...]) -> str:
    outputs = [tensor.name for tensor in version.model.outputs]
    named = version.labelled if labels and version.labelled in outputs else None
    return labelled_output(version.model, labels, named) or outputs[0]


def _listing(labels: tuple[str, ...]) -> str:
    return f"{len(labels)} ({', '.join(labels[:3])}{', …' if len(labels) > 3 else ''})"
