"""The result of an image check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the table of `make image-check`."""

    name: str
    """What was checked."""
    goal: str
    """The goal; empty for a figure without one."""
    found: str
    """What holds."""
    ok: bool
    """Whether the goal is met."""
