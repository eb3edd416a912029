"""A check of a chart, or of the files beside it, and its result."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "pixelserve"


class CheckError(Exception):
    """A check could not run; the message says what is missing and how to install it."""


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    tried: str  # what was checked and how much of it, for the table
    failures: tuple[str, ...] = ()  # one line each; empty: the check passed


@dataclass(frozen=True)
class Check:
    """A named check."""

    name: str  # for --only
    check: Callable[[Path], Result]  # receives the chart's folder
    own_only: bool = False  # True: checks files of this repository, so not for other charts
