"""The results of `make image-check` and `make release-check`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of a check's table."""

    name: str
    """What was checked."""
    goal: str
    """The goal; empty for a figure without one."""
    found: str
    """What holds."""
    ok: bool
    """Whether the goal is met."""
