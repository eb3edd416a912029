"""What can keep the comparison from being made."""

from pathlib import Path


class CompareError(Exception):
    """Something could not be measured; the message says what, and what to do about it."""


class MissingToolError(CompareError):
    """This machine lacks something that the comparison needs."""


class ServerError(CompareError):
    """A server did not start, ended early, or gave a wrong answer."""


class LoadError(CompareError):
    """The load generator failed, or requests were not answered as they should be."""


def tail(path: Path, lines: int = 20) -> str:
    """Returns the last lines of a log file, for a message."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
