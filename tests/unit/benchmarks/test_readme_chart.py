"""The README's chart: its figures are those of benchmarks/README.md, and the README has its estimates."""

from pathlib import Path

import pytest

from benchmarks.readme_chart import ALONE, LOADS, OURS, TRITON_PYTHON, Load, draw, estimate, read_rates

ROOT = Path(__file__).resolve().parents[3]
FIGURES = (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.label)
def test_the_benchmarks_have_both_rates_of_each_group(load: Load) -> None:
    rates = read_rates(FIGURES, load.row)
    assert OURS in rates
    assert rates.keys() & {TRITON_PYTHON, ALONE}


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.label)
def test_the_readme_has_the_estimates(load: Load) -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    for low, high in (load.outside, estimate(load)):
        assert f"{low:.2f} to {high:.2f}" in readme


def test_a_row_that_is_gone_is_named() -> None:
    with pytest.raises(LookupError, match="no row `requests/s at 5 in flight`"):
        read_rates(FIGURES, "requests/s at 5 in flight")


def test_a_row_without_rates_is_refused() -> None:
    with pytest.raises(LookupError, match="expected a rate such as 4,000/s, found '238 µs'"):
        read_rates("| p50 | 238 µs | Triton: 242 µs |", "p50")


@pytest.mark.slow
def test_the_same_figures_make_the_same_chart(tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        draw(FIGURES, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
