"""Lists the pictures of a CSV file: a column of paths, a column of labels and, optionally, one of splits."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelserve.text import TextError, read_text

from ...errors import DataError
from .listing import SPLITS, Listed, Listing, SplitName, check_label, in_order, named

_PATHS = ("path", "file", "filename", "file_name", "image", "image_path")
_LABELS = ("label", "class", "category", "target")
_SPLIT = ("split", "set", "subset", "partition")
_DELIMITERS = ",;\t"
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class _Row:
    path: Path
    written: str
    label: str
    split: SplitName | None
    line: int


def list_table(file: Path) -> Listing:
    """Lists the pictures of a CSV file.

    Its first line names the columns; paths are relative to the file's folder and stay inside it.

    Raises:
        DataError: the file is not such a table, or a row is incomplete, outside the folder, without its picture, or
            listed twice.
    """
    rows = list(_rows(file))
    if not rows:
        raise DataError(f"--images {file}: no rows below the first line; expected a path and a label in each")
    _check_paths(file, rows)
    learned = {row.label for row in rows if row.split in (None, "train")}
    if unknown := sorted({row.label for row in rows} - learned):
        raise DataError(
            f"--images {file}: {named(unknown)}: labels of no training picture; correct them, or add such pictures"
        )
    labels = in_order(learned)
    if len(labels) < 2:
        raise DataError(f"--images {file}: the only label is {labels[0]}; expected at least two")
    for label in labels:
        check_label(label, f"--images {file}: the label")
    index = {label: number for number, label in enumerate(labels)}
    listed = [
        Listed(row.path, index[row.label], f"{row.written}\0{row.label}\0{row.split or ''}", row.split) for row in rows
    ]
    return Listing(labels, listed)


def _rows(file: Path) -> Iterator[_Row]:
    try:
        text = read_text(file, _MOST_BYTES)
    except (OSError, TextError) as error:
        raise DataError(f"--images {file}: cannot be read: {error}; expected a CSV file in UTF-8") from error
    lines = text.splitlines()
    first = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(_DELIMITERS, key=first.count))
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    path, label = (_column(file, columns, names) for names in (_PATHS, _LABELS))
    split = next((columns[name] for name in _SPLIT if name in columns), None)
    root = file.parent.resolve()
    for row in reader:
        line = reader.line_num
        written, title = ((row[name] or "").strip() for name in (path, label))
        if not written or not title:
            raise DataError(f"--images {file}: line {line} has no {'path' if not written else 'label'}; complete it")
        place = (root / written).resolve()
        if not place.is_relative_to(root):
            raise DataError(
                f"--images {file}: line {line}: {written} is outside {root}; expected a path from there: move the "
                f"picture or the CSV file"
            )
        yield _Row(place, written, title, _split_of(file, row, split, line), line)


def _column(file: Path, columns: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in columns:
            return columns[name]
    raise DataError(
        f"--images {file}: no column {names[0]}; its first line names {', '.join(columns) or 'none'}, and expected is "
        f"one of {', '.join(names)}: rename the column"
    )


def _split_of(file: Path, row: Mapping[str, str | None], column: str | None, line: int) -> SplitName | None:
    written = (row[column] or "").strip() if column is not None else ""
    if not written:
        return None
    if written.lower() not in SPLITS:
        raise DataError(f'--images {file}: line {line}: the split "{written}"; expected one of {", ".join(SPLITS)}')
    return SPLITS[written.lower()]


def _check_paths(file: Path, rows: list[_Row]) -> None:
    seen: dict[Path, _Row] = {}
    for row in rows:
        if (first := seen.setdefault(row.path, row)) is not row:
            raise DataError(f"--images {file}: {row.written} is in lines {first.line} and {row.line}; keep one of them")
    if missing := [f"{row.written} (line {row.line})" for row in rows if not row.path.is_file()]:
        raise DataError(
            f"--images {file}: {len(missing):,} of {len(rows):,} pictures do not exist: {named(missing)}; correct the "
            f"paths, which are relative to {file.parent}"
        )
