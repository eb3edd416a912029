"""Goals for the calls of a case."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .clients import Record
from .stage import Played

# How late a busy client may notice its deadline.
_LATE_S = 2.0


@dataclass(frozen=True)
class Goal:
    """A goal, and whether it is met."""

    text: str
    """The goal in words."""
    is_met: bool
    """Whether it does."""
    figure: str
    """What was counted."""


def no_failures(played: Played, kinds: Iterable[str] = ()) -> list[Goal]:
    """Requires that every call of these kinds of clients (empty: all kinds) is answered."""
    return [
        Goal(f"no call of a {kind} client fails", not failed, _described(failed) or f"0 of {len(played.of(kind))}")
        for kind in kinds or played.records
        for failed in [played.failures(kind)]
    ]


def lost_there_only(played: Played, struck_s: float, noticed_s: float, noticed: str) -> list[Goal]:
    """Requires that only a dead server's calls fail: in flight when it died, or sent before the balancer noticed."""
    goals = []
    for kind in played.records:
        failed = played.failures(kind)
        in_flight = sum(each.began_s <= struck_s <= each.ended_s for each in failed)
        late = [each for each in failed if each.began_s > noticed_s]
        sent = len(failed) - in_flight - len(late)
        figure = f"{in_flight} in flight, {sent} sent before {noticed}, {_described(late) or '0'} later"
        goals.append(Goal(f"only {kind} clients' calls fail that the dead server had", not late, figure))
    return goals


def within_deadline(played: Played, deadline_s: float) -> Goal:
    """Requires that no call takes much longer than its deadline."""
    worst_s = max((each.ended_s - each.began_s for records in played.records.values() for each in records), default=0)
    return Goal("every call ends by its deadline", worst_s < deadline_s + _LATE_S, f"at most {worst_s:.1f} s")


def _described(failed: list[Record]) -> str:
    causes = Counter(f"{each.status} {each.details}".strip() for each in failed)
    return "; ".join(f"{count} × {cause}" for cause, count in causes.most_common(3))
