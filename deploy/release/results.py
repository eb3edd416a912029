"""What a check of a release found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of what `make release-check` prints."""

    name: str
    """What was checked."""
    goal: str
    """What must hold."""
    found: str
    """What holds."""
    ok: bool
    """Whether the goal is met."""
