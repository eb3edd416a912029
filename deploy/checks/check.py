"""What a check is: one kind of check on a chart, or on the files beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "pixelserve"


class CheckError(Exception):
    """A check could not run; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Result:
    """What a check found."""

    tried: str  # what was checked and how much of it, as the table shows it
    failures: tuple[str, ...] = ()  # one line each; empty: the check is passed


@dataclass(frozen=True)
class Check:
    """A named check."""

    name: str  # what --only takes
    check: Callable[[Path], Result]  # receives the chart's folder
    own_only: bool = False  # True: checks files of this repository, so it does not apply to other charts
