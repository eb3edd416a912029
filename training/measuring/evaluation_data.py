"""The data to measure an exported version on again: its card's data set, or a user's samples."""

from dataclasses import dataclass
from pathlib import Path

from pixelserve.card import DataSet, sha256_of

from .. import datasets, zoo
from ..errors import SamplesError, UsageError
from ..exporting.evidence import check_range, labelled_output
from ..exporting.samples import read_samples, read_targets
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

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.targets)


def from_dataset(version: Published, data_dir: Path | None) -> EvaluationData:
    """Returns the samples of a card's data set that its figures refer to: the test split, if it has one.

    Args:
        version: the version.
        data_dir: folder of the data set's official files; None downloads them with Keras.

    Raises:
        UsageError: the card names no data set, or an unknown one.
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
    split, samples = dataset.quoted
    inputs, targets = samples.inputs, samples.targets
    _check_inputs(version, dataset.name, inputs)
    if version.card.task == "regression":
        targets = targets.reshape(len(targets), -1)
    output = _output(version, dataset.labels)
    return EvaluationData({version.model.inputs[0].name: inputs}, targets, dataset.labels, output, source, split)


def from_file(version: Published, path: Path) -> EvaluationData:
    """Returns the samples of an .npz file: inputs x and labels y, or for a regression values y.

    Raises:
        SamplesError: the file is unreadable, has no labels, or does not fit the model; or the model has no labels.txt.
    """
    classifies = version.card.task in ("image", "tabular") or bool(version.labels)
    if classifies and not version.labels:
        raise SamplesError(
            f"{version.folder.parent}: no labels.txt beside the version; write one, with one class label per line"
        )
    samples = read_samples(path, version.model, names=version.labels if classifies else ())
    source = DataSet(name=path.name, sha256=sha256_of(path))
    if not classifies:
        targets = read_targets(path, samples.count)
        return EvaluationData(samples.inputs, targets, (), _output(version, ()), source, split="samples")
    if samples.labels is None:
        raise SamplesError(f"{path}: no array y with the samples' labels, which are needed to measure; add it")
    check_range(samples.labels, version.labels)
    output = _output(version, version.labels)
    return EvaluationData(samples.inputs, samples.labels, version.labels, output, source, split="samples")


def known_dataset(version: Published) -> str:
    """Returns the name of a card's data set, for `datasets.load`.

    Raises:
        UsageError: the card names none, or an unknown one.
    """
    claimed = version.card.dataset
    known = {_plain(name): name for name in (zoo.find(recipe).dataset for recipe in zoo.names())}
    if claimed is not None and _plain(claimed.name) in known:
        return known[_plain(claimed.name)]
    says = "names no data set" if claimed is None else f'names the data set "{claimed.name}"'
    raise UsageError(
        f"{version.title}: its card {says}, and only {', '.join(sorted(known.values()))} can be loaded by name; "
        f"give inputs x and labels y with --samples FILE.npz"
    )


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
