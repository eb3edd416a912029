"""`make bench` keeps what it has measured if something else cannot be."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.compare import __main__ as compare
from benchmarks.compare import report, table
from benchmarks.compare.errors import LoadError
from benchmarks.compare.figures import Figure, Round, rows

SETUP: Any = None
APART = ("tuned", "loading", "overload")


def figures_of(*groups: str) -> list[Figure]:
    return [each for each in table.all_figures(1, 1, 2, 1) if each.group in groups and each.is_apart]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The groups whose figures were measured, each figure by itself; tuned cannot be."""
    groups: list[str] = []

    def apart(setup: object, figure: Figure, rounds: int, say: Callable[[str], None]) -> list[Round]:
        groups.append(figure.group)
        if figure.group == "tuned":
            raise LoadError("the machine is busy")
        values: Any = defaultdict(lambda: 1.0)
        return [{figure.ours: values, figure.against: values}]

    monkeypatch.setattr(compare, "_apart", apart)
    return groups


def test_a_group_that_fails_costs_its_own_figures_only(measured: list[str]) -> None:
    chosen = figures_of(*APART)
    found, failed = compare._measure_apart(SETUP, chosen, 1, lambda _: None)
    assert failed == {"tuned": "the machine is busy"}
    # Once, although it has a figure for each model.
    assert measured.count("tuned") == 1
    shown = {row.figure.group for row in rows(chosen, found)}
    assert shown == {"loading", "overload"}


def test_the_report_says_what_was_not_measured(measured: list[str]) -> None:
    chosen = figures_of(*APART)
    found, failed = compare._measure_apart(SETUP, chosen, 1, lambda _: None)
    facts = {"transport": "h2corn", "date": "today"}
    whole = report.Report(facts, 1, 1.0, rows(chosen, found), {}, failed)
    assert "- not measured: tuned: the machine is busy\n" in report.as_markdown(whole)
    assert '"failed": {\n    "tuned": "the machine is busy"\n  }' in report.as_json(whole)


@pytest.mark.parametrize(("failing", "kept"), [(0, 0), (2, 2), (9, 5)])
def test_rounds_before_one_that_fails_are_kept(failing: int, kept: int) -> None:
    values: Any = defaultdict(lambda: 1.0)
    shared = [each for each in table.all_figures(1, 1, 2, 1) if not each.is_apart][:2]

    class Measurer:
        def round(self, figures: list[Figure], number: int, say: Callable[[str], None]) -> Round:
            if number == failing:
                raise LoadError("Triton ended")
            return {each: values for figure in figures for each in (figure.ours, figure.against)}

    measurer: Any = Measurer()
    found, ended = compare._measure_together(measurer, shared, 5, lambda _: None)
    assert ended == ({} if kept == 5 else {f"round {failing + 1} of 5": "Triton ended"})
    assert [len(row.ratios) for row in rows(shared, found)] == [kept] * (2 if kept else 0)
