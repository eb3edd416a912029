"""Writes predictions as they arrive: a table, JSON Lines, or a CSV file that appears when complete."""

import csv
import json
import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

from . import terminal
from .exits import CommandError, Exit

if TYPE_CHECKING:
    from pixelserve.client import Class, Prediction

# More rows are printed as they arrive, unaligned: aligning needs all of them in memory.
TABLE_ROWS = 50


class Sink(Protocol):
    """An output for predictions."""

    def add(self, prediction: "Prediction") -> None:
        """Writes a prediction."""

    def close(self) -> None:
        """Writes everything buffered."""


class JsonLines:
    """One JSON object per picture and line, on stdout."""

    def add(self, prediction: "Prediction") -> None:
        row: dict[str, object] = {
            "path": _path(prediction),
            "classes": list(map(_as_json, prediction.classes)),
            "error": prediction.error or None,
            "model": prediction.model,
            "version": prediction.version,
            "output_kind": prediction.output_kind or None,
        }
        if prediction.occlusion is not None:
            row["occlusion"] = [[_finite(float(drop)) for drop in drops] for drops in prediction.occlusion]
        typer.echo(json.dumps(row))

    def close(self) -> None:
        """Nothing is buffered."""


class Rows:
    """An aligned table for few pictures; tab-separated lines for many."""

    def __init__(self) -> None:
        self._held: list[list[str]] | None = []

    def add(self, prediction: "Prediction") -> None:
        """Prints a row, or buffers it for the table."""
        best = [f"{one.label} {_number(one)}" for one in prediction.classes]
        row = [_path(prediction), *(best or [f"error: {prediction.error}"])]
        if self._held is None:
            _print_line(row)
            return
        self._held.append(row)
        if len(self._held) > TABLE_ROWS:
            for held in self._held:
                _print_line(held)
            self._held = None

    def close(self) -> None:
        """Prints the table."""
        if not self._held:
            return
        width = max(map(len, self._held))
        shown = terminal.table("picture", *(_ordinal(rank) for rank in range(1, width)))
        for row in self._held:
            terminal.add_row(shown, *row, *[""] * (width - len(row)))
        terminal.print_table(shown)


class Csv:
    """A CSV file with one row per picture."""

    def __init__(self, file: TextIO, top: int) -> None:
        """Writes the header; `top` is the number of classes per row."""
        self._writer = csv.writer(file)
        self._top = top
        ranks = range(1, top + 1)
        classes = [f"{column}_{rank}" for rank in ranks for column in ("label", "index", "probability")]
        # Last, because programs may read the others by position.
        scores = [f"score_{rank}" for rank in ranks]
        self._writer.writerow(["path", "error", "model", "version", *classes, *scores])

    def add(self, prediction: "Prediction") -> None:
        """Writes one row."""
        row = [_path(prediction), prediction.error, prediction.model, prediction.version]
        classes = prediction.classes[: self._top]
        for one in classes:
            row += [one.label, str(one.index), "" if one.probability is None else f"{one.probability:.6g}"]
        row += [""] * (4 + 3 * self._top - len(row))
        scores = [f"{one.score:.6g}" if one.probability is None else "" for one in classes]
        self._writer.writerow(row + scores + [""] * (self._top - len(scores)))

    def close(self) -> None:
        """Nothing is buffered."""


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Opens a text file beside `path` that replaces it at the end, or is removed on any error.

    Raises:
        CommandError: the file cannot be written there.
    """
    # A link stays a link; its target is replaced.
    target = path.resolve()
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        file = staged.open("x", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}; choose a file in a folder that you can write to", Exit.USAGE
        ) from error
    try:
        with file:
            yield file
        staged.replace(target)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def _as_json(one: "Class") -> dict[str, object]:
    number = "score" if one.probability is None else "probability"
    return {"label": one.label, "index": one.index, number: _finite(one.score)}


def _finite(number: float) -> float | None:
    # Other servers may send numbers that JSON cannot represent.
    return number if math.isfinite(number) else None


def _number(one: "Class") -> str:
    return f"score {one.score:.4g}" if one.probability is None else f"{one.probability:.2%}"


def _path(prediction: "Prediction") -> str:
    return "" if prediction.source is None else str(prediction.source)


def _print_line(row: list[str]) -> None:
    typer.echo("\t".join(map(terminal.printable, row)))


def _ordinal(rank: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(rank, f"{rank}th")
