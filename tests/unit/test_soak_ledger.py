"""Faults that a soak finds: calls without an end, and metrics that disagree with clients."""

from collections import Counter

import pytest
from soaking.ledger import WILD, Ledger, disagreements


@pytest.fixture
def ledger() -> Ledger:
    """Four calls: an answer, a refusal, one that was cancelled and one whose answer was not read."""
    ledger = Ledger()
    for outcome in ("OK", "NOT_FOUND", "CANCELLED", "UNREAD"):
        ledger.send("ModelInfer")
        ledger.end("ModelInfer", outcome)
    return ledger


def counted(**changes: int) -> Counter[tuple[str, str]]:
    """Returns metrics that agree with the ledger, but for the changes."""
    counts = {"OK": 2, "NOT_FOUND": 1, "CANCELLED": 1} | changes
    return Counter({("ModelInfer", code): count for code, count in counts.items()})


def test_counts_that_agree_are_right(ledger: Ledger) -> None:
    assert disagreements(ledger, counted()) == []
    assert ledger.totals() == {"sent": 4, "answered": 1, "refused": 1, "cancelled": 2}


def test_a_call_without_an_end_is_found(ledger: Ledger) -> None:
    ledger.send("ModelInfer")
    assert "ModelInfer: 5 sent, 4 ended" in disagreements(ledger, counted())


@pytest.mark.parametrize("changes", [{"OK": 1}, {"OK": 3}, {"NOT_FOUND": 0}, {"CANCELLED": 2}, {"INVALID_ARGUMENT": 1}])
def test_metrics_that_differ_by_one_call_are_found(ledger: Ledger, changes: dict[str, int]) -> None:
    (found,) = disagreements(ledger, counted(**changes))
    assert next(iter(changes)) in found


def test_internal_errors_are_found(ledger: Ledger) -> None:
    ledger.send("ModelInfer")
    ledger.end("ModelInfer", "INTERNAL")
    assert any("internal" in each for each in disagreements(ledger, counted(INTERNAL=1)))


@pytest.mark.parametrize(("seen", "is_right"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_wild_call_may_have_been_answered_or_not(ledger: Ledger, seen: int, is_right: bool) -> None:
    for outcome in ("OK", "CANCELLED"):
        ledger.send(WILD)
        ledger.end(WILD, outcome)
    metrics = counted()
    metrics[WILD, "OK"] = seen
    assert (disagreements(ledger, metrics) == []) is is_right
