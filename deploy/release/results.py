"""The result of a release check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the output of `make release-check`."""

    name: str
    """What was checked."""
    goal: str
    """What must hold."""
    found: str
    """What holds."""
    ok: bool
    """Whether the goal is met."""
