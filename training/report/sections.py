"""Chooses a report's sections and draws them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pixelserve.figures import SUREST_ERRORS, Calibration, Evaluation

from ..measuring.evaluate import confusion, measure
from . import charts, gallery, layers, style
from .content import Labels, Pixels, ReportContent, Scores
from .style import shorten


@dataclass(frozen=True)
class Section:
    """One picture with its texts."""

    name: str
    """Its name in `texts.TEXTS`, and the picture's file name without its ending."""
    note: str
    """The picture's figures in words, also as its alternative text."""
    picture: bytes | None = None
    """A PNG file; None if there is nothing to draw, as the note explains."""
    table: Sequence[Sequence[str]] = ()
    """The same as a table, headings first, or empty."""


def draw(content: ReportContent) -> list[Section]:
    """Draws every picture that the content has data for."""
    return [*_data(content), *_training(content), *_predictions(content), *_plane(content), *_layers(content)]


def _data(content: ReportContent) -> Iterator[Section]:
    names = _names(content)
    splits: dict[str, Labels] = {}
    if content.samples is not None:
        images, labels = content.samples.images, content.samples.labels
        splits["training samples"] = labels
        picture = gallery.sample_grid(images, labels, names)
        yield Section("samples", f"The first images of {len(np.unique(labels))} classes.", picture)
    if content.predictions is not None:
        splits[content.predictions.split] = content.predictions.labels
    if splits:
        counts = {split: np.bincount(labels, minlength=len(names)) for split, labels in splits.items()}
        ranges = [f"{split}: {_range(count)} per class" for split, count in counts.items()]
        columns = [[f"{samples:,}" for samples in count] for count in counts.values()]
        table = [("class", *counts), *zip(names, *columns, strict=True)]
        yield Section("class-counts", f"{'; '.join(ranges)}.".capitalize(), charts.class_counts(splits, names), table)


def _training(content: ReportContent) -> Iterator[Section]:
    curves = {name: content.history[name] for pair in charts.CURVES for name in pair if name in content.history}
    epochs = max(map(len, curves.values()), default=0)
    if not epochs:
        return
    last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in curves.items() if len(values))
    columns = [[f"{value:.4f}" for value in values] + [""] * (epochs - len(values)) for values in curves.values()]
    table = [("epoch", *curves), *zip(map(str, range(1, epochs + 1)), *columns, strict=True)]
    note = f"Last of {epochs} epochs: {last}. {content.history_note}".strip()
    yield Section("training-curves", note, charts.training_curves(curves), table)


def _predictions(content: ReportContent) -> Iterator[Section]:
    if content.predictions is None:
        return
    names, labels, images = _names(content), content.predictions.labels, content.predictions.images
    scores = _a_score_a_class(content.predictions.scores)
    # None if the scores are not probabilities.
    figures = measure(scores, labels, names, split=content.predictions.split)
    calibration = figures.calibration
    yield _confusion(confusion(scores, labels), names, content.predictions.split)
    if figures.evaluation.per_class:
        yield _per_class(figures.evaluation)
    if images is not None:
        yield _errors(images, labels, scores, names, as_probability=calibration is not None)
    if images is not None and calibration is not None:
        yield _doubt(images, labels, scores, names)
    if calibration is not None:
        yield _reliability(calibration)


def _confusion(counts: npt.NDArray[np.int64], names: Sequence[str], split: str) -> Section:
    note = f"{np.trace(counts):,} of {counts.sum():,} {split} are classified correctly."
    rows = [(name, *(f"{count:,}" for count in row)) for name, row in zip(names, counts, strict=True)]
    table = [("label \\ prediction", *names), *rows]
    return Section("confusion-matrix", note, charts.confusion_matrix(counts, names), table)


def _per_class(evaluation: Evaluation) -> Section:
    low, high = evaluation.balanced_accuracy_interval or (0.0, 0.0)
    note = (
        f"Balanced accuracy, the mean recall: {evaluation.balanced_accuracy or 0:.2%} (95 % interval {low:.2%} to "
        f"{high:.2%})."
    )
    table: list[Sequence[str]] = [("class", "samples", "precision", "recall", "F1")]
    for name, each in evaluation.per_class.items():
        shares = (
            (each.precision, each.precision_interval),
            (evaluation.per_class_recall.get(name), each.recall_interval),
            (each.f1, each.f1_interval),
        )
        cells = ("–" if share is None else f"{share:.2%}{_between(interval)}" for share, interval in shares)
        table.append((name, f"{evaluation.per_class_samples.get(name, 0):,}", *cells))
    return Section("per-class", note, table=table)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.2%} to {interval[1]:.2%})"


def _reliability(calibration: Calibration) -> Section:
    error = f"Expected calibration error: {calibration.expected_calibration_error:.4f} over {calibration.bins} bins."
    if not any(map(charts.is_shown, calibration.reliability)):
        return Section("reliability", f"{error} No bin has the {charts.LEAST_BINNED} samples for an accuracy.")
    table = [("confidence, %", "samples", "accuracy, %")]
    for index, each in enumerate(calibration.reliability):
        low, high = (f"{100 * edge / calibration.bins:.1f}" for edge in (index, index + 1))
        accuracy = f"{100 * (each.accuracy or 0):.1f}" if charts.is_shown(each) else "–"
        table.append((f"{low} to {high}", f"{each.samples:,}", accuracy))
    return Section("reliability", error, charts.reliability(calibration), table)


def _errors(images: Pixels, labels: Labels, scores: Scores, names: Sequence[str], *, as_probability: bool) -> Section:
    wrong = int((scores.argmax(axis=1) != labels).sum())
    if not wrong:
        return Section("errors", f"None: all {len(labels):,} samples are classified correctly.")
    picture = gallery.errors(images, labels, scores, names, as_probability=as_probability)
    return Section("errors", f"{min(wrong, SUREST_ERRORS)} of {wrong:,} misclassified images.", picture)


def _doubt(images: Pixels, labels: Labels, scores: Scores, names: Sequence[str]) -> Section:
    ascending = np.sort(scores, axis=1)
    place = int(np.argmin(ascending[:, -1] - ascending[:, -2]))
    note = f"The label is {names[labels[place]]}, the prediction {names[scores[place].argmax()]}."
    return Section(
        "probabilities", note, gallery.probability_bars(images[place], scores[place], names, int(labels[place]))
    )


def _plane(content: ReportContent) -> Iterator[Section]:
    fit = content.regression
    if fit is not None:
        terms = [f"{slope:.5g} · {name}" for slope, name in zip(fit.coefficients, fit.feature_names, strict=True)]
        plane = " + ".join([*terms, f"{fit.intercept:.5g}"]).replace("+ -", "− ")
        yield Section("plane", f"{fit.target_name} = {plane}", charts.plane(fit))


def _layers(content: ReportContent) -> Iterator[Section]:
    if content.layers:
        table = layers.table(content.layers)
        note = f"Layers: {len(content.layers)}, parameters: {table[-1][-1]}."
        yield Section("layers", note, layers.layer_table(content.layers), table)


def undrawable(content: ReportContent) -> str:
    """Returns a note about class names that no installed font can draw in the pictures; empty if all are drawn."""
    missing = style.undrawable("".join(content.labels))
    if not missing:
        return ""
    return (
        f"No installed font has the characters {shorten(missing, 20)} of the class names, so the pictures show boxes "
        f"for them; install one, for Chinese, Japanese and Korean Debian's fonts-noto-cjk, and train or draw again."
    )


def _range(counts: npt.NDArray[np.int64]) -> str:
    least, most = counts.min(), counts.max()
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _names(content: ReportContent) -> Sequence[str]:
    # A single score decides whether it is the label.
    return (f"not {content.labels[0]}", content.labels[0]) if len(content.labels) == 1 else content.labels


def _a_score_a_class(scores: Scores) -> Scores:
    return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores
