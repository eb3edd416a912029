"""The results of cases, as a table and as JSON."""

import math
from dataclasses import dataclass, field
from typing import Any

from .goals import Goal
from .overload import TIMES, Overloaded
from .stage import Played


@dataclass
class Row:
    """One case behind one balancer."""

    case: str
    """Its title."""
    balancer: str
    """The balancer."""
    requests: dict[str, int]
    """By kind of client."""
    failures: dict[str, int]
    """By kind of client."""
    p99_s: float
    """During the event; NaN if no call was answered."""
    steady_p99_s: float
    """Before the event."""
    network: str
    """The kind of the servers' addresses."""
    goals: list[Goal] = field(default_factory=list)
    """The goals."""
    refused: int = 0
    """Calls refused under overload; not failures."""

    @property
    def is_met(self) -> bool:
        """Whether every goal is met."""
        return all(each.is_met for each in self.goals)

    @property
    def ratio(self) -> float:
        """Ratio of p99 during the event to that before."""
        return self.p99_s / self.steady_p99_s if self.steady_p99_s else math.nan

    def as_json(self) -> dict[str, Any]:
        """Returns everything, times in milliseconds."""
        return {
            "case": self.case,
            "balancer": self.balancer,
            "network": self.network,
            "requests": self.requests,
            "failures": self.failures,
            "refused": self.refused,
            "p99_ms": _ms(self.p99_s),
            "steady_p99_ms": _ms(self.steady_p99_s),
            "goals": [{"goal": each.text, "met": each.is_met, "figure": each.figure} for each in self.goals],
        }


def row(title: str, balancer: str, played: Played, goals: list[Goal]) -> Row:
    """Returns a case's row."""
    requests = {kind: len(records) for kind, records in played.records.items()}
    failures = {kind: len(played.failures(kind)) for kind in played.records}
    p99s = played.event_p99_s, played.steady_p99_s
    return Row(title, balancer, requests, failures, *p99s, played.network, goals)


def overload_row(balancer: str, overloaded: Overloaded) -> Row:
    """Returns the row of an overload; its steady p99 is measured at a third of the capacity."""
    over = overloaded.over
    return Row(
        f"overload at {TIMES} × capacity ({overloaded.capacity_per_s:,.0f}/s)",
        balancer,
        {"raw": over.codes.total() + over.unanswered},
        {"raw": overloaded.failed},
        over.accepted_s(99),
        overloaded.after.accepted_s(99),
        overloaded.network,
        overloaded.goals(),
        overloaded.refused,
    )


HEAD = f"{'case':44} {'balancer':10} {'requests, failures':44} {'p99 ms':>8} {'steady':>8} {'ratio':>6}  goals"
"""The column titles."""


def lines(row: Row) -> str:
    """Returns a row's line, with its counts below."""
    counts = ", ".join(f"{kind} {row.requests[kind]:,} {row.failures[kind]}" for kind in row.requests)
    counts += f", refused {row.refused:,}" if row.refused else ""
    p99s = f"{row.p99_s * 1e3:8.1f} {row.steady_p99_s * 1e3:8.1f} {row.ratio:6.1f}"
    line = f"{row.case:44} {row.balancer:10} {counts:44} {p99s}  {'met' if row.is_met else 'MISSED'}"
    goals = [f"    {'' if goal.is_met else 'MISSED: '}{goal.text}: {goal.figure}" for goal in row.goals]
    return "\n".join((line, *goals))


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 3)
