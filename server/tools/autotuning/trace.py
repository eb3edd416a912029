"""A recorded workload: when requests arrived, and how many rows each had.

One request per line, as JSON with `arrival_s` and `rows`, or as CSV with such a header; or the lines of a server's
access log (--log-format json), which say when each call was answered and how many rows it had.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pixelserve.text import TEXT_BYTES, TextError, read_text

from ...errors import ConfigurationError

_EXPECTED = (
    'expected one request per line, as JSON ({"arrival_s": 0.25, "rows": 8}) or as CSV with the header arrival_s,rows, '
    "or a server's access log"
)


@dataclass(frozen=True)
class Trace:
    """Requests by their arrival."""

    arrivals_s: tuple[float, ...]
    """When each arrived, in seconds from the first, ascending."""
    rows: tuple[int, ...]
    """Rows of each."""

    @property
    def seconds(self) -> float:
        """Time from the first to the last arrival."""
        return self.arrivals_s[-1]

    def shares(self) -> dict[int, float]:
        """Returns by size of a request which share of all rows came in requests of it."""
        counted: Counter[int] = Counter()
        for rows in self.rows:
            counted[rows] += rows
        total = sum(counted.values())
        return {rows: count / total for rows, count in sorted(counted.items())}


def read_trace(path: Path, model: str) -> Trace:
    """Reads a workload.

    Args:
        path: the file.
        model: lines of an access log for other models are passed over.

    Raises:
        ConfigurationError: the file cannot be read, or a line is none of the three forms.
    """
    try:
        lines = [line for line in read_text(path, TEXT_BYTES).splitlines() if line.strip()]
    except (OSError, TextError) as error:
        raise ConfigurationError(f"--trace {path}: cannot be read: {error}; {_EXPECTED}") from error
    records = _json_lines(path, lines) if lines and lines[0].lstrip().startswith("{") else _csv_lines(path, lines)
    requests = sorted(_requests(path, records, model))
    if not requests:
        raise ConfigurationError(f"--trace {path}: no request for {model}; {_EXPECTED}")
    first_s = requests[0][0]
    return Trace(tuple(arrival_s - first_s for arrival_s, _ in requests), tuple(rows for _, rows in requests))


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"--trace {path}:{number}: not JSON: {error}; {_EXPECTED}") from error
        yield number, record if isinstance(record, dict) else {}


def _csv_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    yield from enumerate(csv.DictReader(lines), 2)


def _requests(path: Path, records: Iterable[tuple[int, Mapping[str, Any]]], model: str) -> Iterator[tuple[float, int]]:
    for number, record in records:
        is_log = "event" in record
        if is_log and (record.get("event") != "request" or record.get("model") != model or "rows" not in record):
            continue
        try:
            arrival_s = _time_s(record) if is_log else float(record["arrival_s"])
            rows = int(record["rows"])
            if rows < 1 or not 0 <= arrival_s < float("inf"):
                raise ValueError("a request has at least 1 row and arrives at 0 s or later")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"--trace {path}:{number}: {error}; {_EXPECTED}") from error
        yield arrival_s, rows


def _time_s(record: Mapping[str, Any]) -> float:
    """Returns when a logged call arrived, in seconds since 1970: a line is written when it was answered."""
    answered_s = datetime.fromisoformat(str(record["timestamp"])).timestamp()
    return answered_s - float(record.get("duration_ms", 0.0)) / 1e3
