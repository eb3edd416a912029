from pathlib import Path
from typing import Any

import pytest

from benchmarks import overfitting
from benchmarks.overfitting import BEGIN, END, SINGLE, VARIANTS, Row, put_between_markers, table, take_times


class Counting:
    """A model that remembers who ran."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, inputs: Any) -> None:
        self.log.append(self.name)


def row(variant: str, *, spread: float | None = None) -> Row:
    model: Any = None
    return Row(variant, held_out=0.9, spread=spread, train=0.95, test=0.88, parameters=1234, model=model)


def test_a_row_says_accuracies_the_gap_and_the_median_ratio_of_the_rounds() -> None:
    taken = [{SINGLE: 1.0, "double": 2.0}, {SINGLE: 2.0, "double": 5.0}, {SINGLE: 1.0, "double": 2.2}]
    lines = table([row(SINGLE), row("double"), row("folds", spread=0.0042)], taken).splitlines()[2:]
    assert lines == [
        "| single model | 90.00 % | 88.00 % | 7.00 points | 1,234 | 1.00 (1.00 to 1.00) |",
        "| double | 90.00 % | 88.00 % | 7.00 points | 1,234 | 2.20 (2.00 to 2.50) |",
        "| folds | 90.00 % ± 0.42 | 88.00 % | 7.00 points | 1,234 | 1.00 (1.00 to 1.00) |",
    ]


def test_times_are_taken_forwards_and_backwards_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfitting, "CALLS", 1)
    monkeypatch.delattr(overfitting.os, "sched_setaffinity", raising=False)
    log: list[str] = []
    models: Any = {name: Counting(name, log) for name in "abc"}
    taken = take_times(models, None, rounds=2)
    assert "".join(log) == "cbaabccba"
    assert [set(times) for times in taken] == [{"a", "b", "c"}] * 2


def test_the_table_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between_markers(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["nothing", f"{BEGIN} alone"])
def test_a_file_without_both_markers_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match="expected the lines"):
        put_between_markers(page, "new")
    assert page.read_text() == text


def test_the_docs_have_a_place_for_the_table() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "overfitting.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_every_remedy_is_compared() -> None:
    remedies = {name.split(" (")[0] for name in VARIANTS}
    assert remedies == {SINGLE, "l1", "l2", "l1 + l2", "dropout", "early stopping", "bagging", "boosting", "stacking"}
