"""`pixelserve evaluate`: measures an exported version again and compares the figures with its card's."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..interval import interval_of
from . import extras, terminal
from .exits import Exit

_EPILOG = """The highest version of a model in ./models, on the samples that its card names:

\b
  pixelserve evaluate mnist-cnn --data-dir data     # data/mnist/t10k-images-idx3-ubyte.gz and so on

One version, in any repository, or by its folder:

\b
  pixelserve evaluate mnist-cnn:1 --model-repository models
  pixelserve evaluate models/mnist-cnn/1

The test split, once settings are chosen; the reading is logged, and the card has its figures from then on:

\b
  pixelserve evaluate mnist-cnn --split test --write-card --data-dir data

Your own model, on the samples it was exported with, or on new ones (inputs x and labels y):

\b
  pixelserve evaluate pets --samples samples.npz

Add what newer exports have, such as the confusion matrix, to an older card, if its figures still hold:

\b
  pixelserve evaluate mnist-cnn --data-dir data --write-card

One figure for a program; the exit code is 14 if a figure differs from the card's:

\b
  pixelserve evaluate mnist-cnn --json | jq .metrics.accuracy
"""

# A confusion table of more columns is wider than most terminals.
_MOST_COLUMNS = 20
_MOST_CONFUSIONS = 20


class Split(StrEnum):
    """A split of a data set."""

    TEST = "test"
    VALIDATION = "validation"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(evaluate)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="NAME or NAME:VERSION in the repository, or a model's or a version's folder."),
    ],
    model_repository: Annotated[
        Path,
        typer.Option(
            envvar="PIXELSERVE_MODEL_REPOSITORY", help="The model repository that contains NAME.", metavar="DIR"
        ),
    ] = Path("models"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the data set's official files; without it, Keras downloads them.",
            metavar="DIR",
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="An .npz file of inputs x and labels y, in place of the card's data set.", metavar="FILE"),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(
            help="The split of the card's data set: test, each reading of which is logged, or validation, the samples "
            "that its run held out. Default: that of the card's figures.",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--readings",
            help="The log of readings of the test split; default: docs/test-split-readings.md of the checkout that "
            "contains the working directory.",
            metavar="FILE",
        ),
    ] = None,
    write_card: Annotated[
        bool,
        typer.Option(
            "--write-card",
            help="Write the measured figures into the card, if they agree with it, or are the first of the test split.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Measure an exported version with ONNX Runtime alone, and compare the figures with its card's."""
    remeasure = extras.load("pixelserve_training.measuring.remeasure", extra="training")
    asked = {"split": split and split.value, "log": log}
    found = remeasure.remeasure(model, repository=model_repository, data_dir=data_dir, samples=samples, **asked)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        _print(found)
    if found.differences:
        raise typer.Exit(Exit.OTHER_FIGURES)
    if write_card:
        found.write_card()
        if not as_json:
            typer.echo(terminal.printable(f"the card has these figures: {found.version.folder}"))


def _print(found: Any) -> None:
    source = f"{found.data.dataset.name} ({found.data.split})"
    typer.echo(terminal.printable(f"{found.version.title}: {found.data.count:,} samples of {source}"))
    if found.data.dataset.note:
        typer.echo(terminal.printable(f"note: {found.data.dataset.note}"))
    _print_figures(found)
    if found.confusion is not None:
        typer.echo()
        _print_confusion(found)
    if found.figures.evaluation.surest_errors:
        typer.echo()
        _print_errors(found.figures.evaluation.surest_errors)
    typer.echo()
    if found.reading is not None:
        typer.echo(terminal.printable(found.reading.described))
    typer.echo(terminal.printable(_verdict(found)))


def _print_figures(found: Any) -> None:
    shown = terminal.table("", "measured", "card", right=("measured", "card"))
    measured, card = found.figures, found.version.card
    claims = card.evaluation
    for name, value in measured.evaluation.metrics.items():
        show = _percent if name == "accuracy" else _plain
        terminal.add_row(shown, name, show(value), show(claims.metrics.get(name)) if claims else "")
        if name == "accuracy":
            of_card = _interval(interval_of(claims)) if claims else ""
            terminal.add_row(shown, "95 % interval", _interval(found.interval), of_card)
    if measured.evaluation.balanced_accuracy is not None:
        parts = (measured.evaluation, claims)
        balanced = [_percent(each.balanced_accuracy) if each else "" for each in parts]
        terminal.add_row(shown, "balanced accuracy", *balanced)
        intervals = [_interval(each.balanced_accuracy_interval) if each else "" for each in parts]
        terminal.add_row(shown, "95 % interval", *intervals)
    for label, recall in measured.evaluation.per_class_recall.items():
        terminal.add_row(
            shown,
            f"recall of {label}",
            _percent(recall),
            _percent(claims.per_class_recall.get(label) if claims else None),
        )
    for name, shown_as in (("precision", "precision"), ("f1", "F1")):
        for label, each in measured.evaluation.per_class.items():
            before = claims.per_class.get(label) if claims else None
            figures = [_percent(getattr(part, name, None)) for part in (each, before)]
            terminal.add_row(shown, f"{shown_as} of {label}", *figures)
    if measured.calibration:
        claimed = card.calibration.expected_calibration_error if card.calibration else None
        name = f"ECE ({measured.calibration.bins} bins)"
        terminal.add_row(shown, name, _plain(measured.calibration.expected_calibration_error), _plain(claimed))
    for size, latency in found.latency_us.items():
        name = "time of one sample" if size == 1 else f"time per sample in batches of {size}"
        terminal.add_row(shown, name, f"{latency:,.1f} µs", "")
    terminal.print_table(shown)


def _print_confusion(found: Any) -> None:
    classes, counts = found.classes, found.confusion
    if len(classes) > _MOST_COLUMNS:
        _print_confusions(found)
        return
    columns = [str(index) for index in range(len(classes))]
    shown = terminal.table("true label", *columns, right=columns)
    for index, (label, row) in enumerate(zip(classes, counts, strict=True)):
        terminal.add_row(shown, label if label == str(index) else f"{index} {label}", *map(str, row))
    typer.echo("confusion: predicted label by column")
    terminal.print_table(shown)


def _print_confusions(found: Any) -> None:
    pairs = [
        (int(count), label, other)
        for label, row in zip(found.classes, found.confusion, strict=True)
        for other, count in zip(found.classes, row, strict=True)
        if count and label != other
    ]
    shown = terminal.table("samples", "true label", "predicted", right=("samples",))
    for count, label, other in sorted(pairs, reverse=True)[:_MOST_CONFUSIONS]:
        terminal.add_row(shown, f"{count:,}", label, other)
    typer.echo(f"most frequent confusions of {len(found.classes)} labels; --json has all")
    terminal.print_table(shown)


def _print_errors(errors: Any) -> None:
    shown = terminal.table("sample", "true label", "predicted", "probability", right=("sample", "probability"))
    for each in errors:
        terminal.add_row(shown, str(each.sample), each.label, each.predicted, _percent(each.probability))
    typer.echo("the most confident errors")
    terminal.print_table(shown)


def _verdict(found: Any) -> str:
    if found.incomparable:
        return f"not comparable with the card: {found.incomparable}"
    if found.differences:
        return f"DIFFERS FROM ITS CARD: {'; '.join(found.differences)}"
    return "agrees with its card"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
