"""What a check of an image found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the table that `make image-check` prints."""

    name: str
    """What was checked."""
    goal: str
    """What must hold; empty for a figure without a goal."""
    found: str
    """What holds."""
    ok: bool
    """Whether the goal is met."""
