"""Measures an exported version again, with ONNX Runtime alone, and compares the figures with its card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelserve.card import CARD_FILE
from pixelserve.interval import interval_of
from pixelserve.scores import is_single_unit

from .. import runtime
from ..errors import SamplesError, SourceError, UsageError
from ..progress import say, tracked
from ..runtime import Array
from . import evaluation_data, published, readings, timing
from .agreement import differences
from .evaluate import Figures, as_served, class_names, confusion, measure, measure_regression
from .evaluation_data import EvaluationData
from .pictures import pictures_in
from .published import Published
from .readings import Reading

# Samples per step of the progress bar.
_PART = 500
_PICTURES = {"surest_errors": {"__all__": {"picture"}}}


@dataclass(frozen=True)
class Remeasured:
    """The measured figures of a version, compared with its card."""

    version: Published
    """The version measured."""
    data: EvaluationData
    """The data that it was measured on."""
    figures: Figures
    """What was measured."""
    confusion: npt.NDArray[np.int64] | None
    """The confusion matrix, [classes, classes], with true labels in rows, or None for a regression."""
    latency_us: dict[int, float]
    """Median time per sample by batch size, in microseconds, on one CPU thread."""
    reading: Reading | None = None
    """What became of the reading of a test split that was asked for; None: none was asked for."""

    @property
    def incomparable(self) -> str:
        """Why the card's figures cannot be compared with these; empty if they can."""
        card, source = self.version.card, self.data.dataset
        if card.evaluation is None or card.dataset is None:
            return "its card holds no figures"
        if card.evaluation.choice_run is not None and self.data.split != "test":
            return "its card has the figures of another network, of the run that chose its settings"
        if source.sha256 != card.dataset.sha256:
            return f"{source.name} is other data than its card's {card.dataset.name}, by the hash"
        if card.evaluation.split != self.data.split:
            return f"its card's figures are of the split {card.evaluation.split}, these of {self.data.split}"
        return ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the measured accuracy, fractions of 1; None for training samples and regressions."""
        return interval_of(self.figures.evaluation)

    @property
    def differences(self) -> list[str]:
        """Differences from the card on the same samples, a clause per figure."""
        return [] if self.incomparable else differences(self.version.card, self.figures, self.support)

    @property
    def is_first_reading(self) -> bool:
        """Whether these are the test split's figures, and the card has others of the same data set, or none."""
        card = self.version.card
        same = card.dataset is not None and card.dataset.sha256 == self.data.dataset.sha256
        return self.data.is_sealed and same and (card.evaluation is None or card.evaluation.split != "test")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the confusion matrix's rows and columns."""
        return class_names(self.data.labels)

    @property
    def support(self) -> dict[str, int]:
        """The number of samples per label; empty for a regression."""
        if self.confusion is None:
            return {}
        return dict(zip(self.classes, self.confusion.sum(axis=1).tolist(), strict=True))

    def write_card(self) -> None:
        """Writes the measured figures to the version's card, atomically.

        Raises:
            UsageError: they differ from the card's, or are not comparable, and do not replace figures of samples that
                are held out by those of the test split.
            OSError: the card is not writable.
        """
        problem = self.incomparable or "; ".join(self.differences)
        if problem and not self.is_first_reading:
            raise UsageError(f"{self.version.title}: its card is unchanged: {problem}")
        figures: dict[str, Any] = {"evaluation": self.figures.evaluation, "calibration": self.figures.calibration}
        if self.is_first_reading:
            figures["baseline"] = self.figures.baseline
        path = self.version.folder / CARD_FILE
        written = path.with_name(f".{CARD_FILE}.new")
        try:
            self.version.card.model_copy(update=figures).write(written)
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve evaluate --json`."""
        card, calibration = self.version.card, self.figures.calibration
        counts = None if self.confusion is None else {"labels": self.classes, "counts": self.confusion.tolist()}
        return {
            "model": card.name,
            "folder": str(self.version.folder),
            "sha256": card.sha256,
            "onnxruntime": runtime.version(),
            "dataset": self.data.dataset.model_dump(),
            **self.figures.evaluation.model_dump(exclude=_PICTURES, exclude_none=True),
            "interval": self.interval,
            "confusion": counts,
            "calibration": calibration.model_dump(exclude_none=True) if calibration else None,
            "latency_us": {str(size): round(latency, 2) for size, latency in self.latency_us.items()},
            "card": card.model_dump(
                include={"dataset", "evaluation", "calibration"}, exclude={"evaluation": _PICTURES}, exclude_none=True
            ),
            "incomparable": self.incomparable,
            "differences": self.differences,
            "reading": self.reading and {"log": str(self.reading.log or ""), "repeats": self.reading.repeats},
        }


def remeasure(
    model: str,
    *,
    repository: Path,
    data_dir: Path | None,
    samples: Path | None,
    split: str | None = None,
    log: Path | None = None,
) -> Remeasured:
    """Measures an exported version again, after checking its file against the card's hash.

    TensorFlow is loaded only to download the data set with Keras.

    Args:
        model: a version's or a model's folder, or NAME or NAME:VERSION in the repository.
        repository: the model repository.
        data_dir: folder of the official files of the card's data set; None downloads them with Keras.
        samples: an .npz file of inputs x and labels y (for a regression, values y), instead of the card's data set.
        split: test or validation, of the card's data set; None: the split of the card's figures, which repeats them. A
            reading of a sealed test split that is asked for is logged.
        log: the log of such readings; None: that of the checkout around the working directory, if there is one.

    Raises:
        SourceError: there is no such version, it has no card, its file does not match its card, or an output is NaN or
            infinite.
        UsageError: the data set is unknown, the version has learned the split, or the log cannot be written.
        DataError: the data set is not available.
        SamplesError: samples or labels do not fit the model.
    """
    version = published.read(published.find(model, repository))
    if samples is not None and split is not None:
        raise UsageError(f"--split {split} is for the card's data set; omit it, or --samples")
    data = (
        evaluation_data.from_dataset(version, data_dir, split)
        if samples is None
        else evaluation_data.from_file(version, samples)
    )
    is_read = split is not None and data.is_sealed
    log = (log or readings.find_log(Path.cwd())) if is_read else None
    if log is not None:
        readings.check_log(log)
    say(f"measuring {version.title} on {data.count:,} samples of {data.dataset.name}")
    outputs = outputs_of(version, data)
    figures = _figures(version, outputs, data)
    counts = confusion(outputs, data.targets) if data.labels else None
    reading = readings.record(version, data.dataset.sha256, figures, log) if is_read else None
    say("measuring its latency")
    return Remeasured(version, data, figures, counts, _latency_us(version, data), reading)


def figures_of(version: Published, data: EvaluationData) -> Figures:
    """Returns a version's figures on samples.

    Raises:
        SamplesError: the samples' labels or values do not fit the model.
    """
    return _figures(version, outputs_of(version, data), data)


def _figures(version: Published, outputs: Array, data: EvaluationData) -> Figures:
    if not data.labels:
        return _regression(outputs, data)
    _check_classes(outputs, data)
    calibration = version.card.calibration
    return measure(
        *(outputs, data.targets, data.labels),
        split=data.split,
        temperature=calibration.temperature if calibration else None,
        picture_of=pictures_in(next(iter(data.inputs.values())), version.pictures),
    )


def outputs_of(version: Published, data: EvaluationData) -> Array:
    """Returns the predicting output, [N, classes or values], as a server would return it.

    Raises:
        SourceError: an output is NaN or infinite.
    """
    starts = range(0, data.count, _PART)
    parts = [
        version.model.run({name: array[start : start + _PART] for name, array in data.inputs.items()})[data.output]
        for start in tracked(starts, "measuring")
    ]
    outputs = np.concatenate(parts).reshape(data.count, -1)
    bad = ~np.isfinite(outputs).all(axis=1)
    if bad.any():
        raise SourceError(
            f"{version.title}: {data.output} is NaN or infinite for {bad.sum():,} of {data.count:,} samples, first "
            f"for sample {int(bad.argmax())}; it cannot be measured: train the model again"
        )
    return as_served(outputs, data.labels, version.output_kind) if data.labels else outputs


def _check_classes(outputs: Array, data: EvaluationData) -> None:
    # A graph may not define its number of classes.
    classes = len(data.labels)
    if outputs.shape[1] not in (classes, len(class_names(data.labels))) and not is_single_unit(
        outputs.shape[1], classes
    ):
        raise SamplesError(f"{len(data.labels)} labels are given, but {data.output} has {outputs.shape[1]} classes")


def _regression(outputs: Array, data: EvaluationData) -> Figures:
    if outputs.shape != data.targets.shape:
        raise SamplesError(
            f"{data.dataset.name}: {data.targets.shape[1]} values per sample, but the model predicts {outputs.shape[1]}"
        )
    return measure_regression(outputs, data.targets, split=data.split)


def _latency_us(version: Published, data: EvaluationData) -> dict[int, float]:
    sizes = timing.batch_sizes(version.model)
    return {size: float(np.median(timing.sample_times_s([(version.model, data.inputs)], size))) * 1e6 for size in sizes}
