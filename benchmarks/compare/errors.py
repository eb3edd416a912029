"""Errors of the comparison."""

from pathlib import Path


class CompareError(Exception):
    """Something could not be measured; the message says what, and the remedy."""


class MissingToolError(CompareError):
    """This machine lacks something required."""


class ServerError(CompareError):
    """A server did not start, exited early, or gave a wrong answer."""


class LoadError(CompareError):
    """The load generator failed, or requests were not answered correctly."""


def tail(path: Path, lines: int = 20) -> str:
    """Returns the last lines of a log file, for a message."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
