"""The log of readings of the zoo's test splits: a Markdown file with a table, which `evaluate --split test` appends to.

Every reading makes the test split worth less: what is chosen after it is chosen on it. So each is logged, except the
repetition of a logged one, which shows nothing new.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from pixelserve.interval import interval_of

from ..errors import UsageError
from ..progress import say
from ..staging import reason
from .evaluate import Figures
from .published import Published

FILE = Path("docs") / "test-split-readings.md"
"""The log's place in a checkout."""

_HEAD = ("date", "recipe", "commit", "seed", "data", "accuracy", "95% interval", "SHA-256 of model.onnx")
_HASH_CHARACTERS = 12
_GIT_S = 10
_TITLE = "# Readings of the test splits\n"


@dataclass(frozen=True)
class Reading:
    """A reading of a test split."""

    log: Path | None
    """The log; None: there is none, so the reading is not logged."""
    repeats: str | None
    """The date of the logged reading that it repeats, which is not logged again; None if it is new."""

    @property
    def described(self) -> str:
        """What became of it, in words."""
        if self.log is None:
            return (
                f"this reading of the test split was not logged: no checkout with {FILE} contains the working "
                f"directory; log it with --readings FILE"
            )
        if self.repeats is not None:
            return f"this reading repeats that of {self.repeats} in {self.log}, and is not logged again"
        return f"this reading of the test split is logged in {self.log}: commit it"


def find_log(start: Path) -> Path | None:
    """Returns the log of the checkout that contains a folder, or None."""
    return next((folder / FILE for folder in (start, *start.parents) if (folder / FILE).is_file()), None)


def check_log(log: Path) -> None:
    """Checks that a log can be appended to, before anything is read; creates it if it is missing.

    Raises:
        UsageError: it cannot.
    """
    try:
        with log.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise UsageError(f"{log} cannot be written: {reason(error)}; give another --readings FILE") from error


def record(version: Published, sha256: str, figures: Figures, log: Path | None) -> Reading:
    """Logs a reading, unless the log already has one of the same model file on the same data.

    Args:
        version: the version.
        sha256: the data set's hash.
        figures: the figures on its test split.
        log: the log, or None.
    """
    if log is None:
        return Reading(None, None)
    data = f"{version.card.dataset.name if version.card.dataset else '?'} {sha256[:8]}"
    text = log.read_text(encoding="utf-8")
    model = version.card.sha256[:_HASH_CHARACTERS]
    for cells in map(_cells, text.splitlines()):
        if len(cells) == len(_HEAD) and cells[-1] == model and cells[4] == data:
            return Reading(log, repeats=cells[0])
    row = _row(version, data, figures, log.parent, datetime.now(UTC).date())
    with log.open("a", encoding="utf-8") as file:
        file.write(("" if text else _TITLE) + _table_start(text) + _line(row))
    return Reading(log, repeats=None)


def _row(version: Published, data: str, figures: Figures, folder: Path, day: date) -> tuple[str, ...]:
    card, interval = version.card, interval_of(figures.evaluation)
    low, high = interval or (0.0, 1.0)
    return (
        day.isoformat(),
        card.recipe or card.name,
        _commit(folder),
        "" if card.seed is None else str(card.seed),
        data,
        f"{figures.accuracy:.2%}",
        f"{low:.2%} to {high:.2%}",
        card.sha256[:_HASH_CHARACTERS],
    )


def _table_start(text: str) -> str:
    """Returns the head of the table if the text does not end in one."""
    last = text.rstrip("\n").rpartition("\n")[2]
    if len(_cells(last)) == len(_HEAD):
        return "" if text.endswith("\n") else "\n"
    return "\n" + _line(_HEAD) + _line(["---"] * len(_HEAD))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def _commit(folder: Path) -> str:
    """Returns the commit that is checked out around a folder, or unknown."""
    command = ["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_S)  # noqa: S603  # ours
    except (OSError, subprocess.SubprocessError):
        say("note: the commit is unknown, because git is not installed or the log is in no repository")
        return "unknown"
    return done.stdout.strip()
