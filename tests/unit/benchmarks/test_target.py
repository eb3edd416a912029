"""The figures of a latency target."""

from typing import Any

from benchmarks.compare.figures import OURS, TARGET_LEVELS, Kind, Measurement
from benchmarks.compare.table import all_figures
from benchmarks.compare.target import TARGET_MS, as_round


def level(rate: float, p99_ms: float) -> dict[str, float]:
    return {"requests_per_s": rate, "p99_us": p99_ms * 1e3}


def test_the_best_fixed_setting_is_the_fastest_that_keeps_the_target() -> None:
    kept, fast, slow = level(90, TARGET_MS), level(100, 1.2 * TARGET_MS), level(80, 1.1 * TARGET_MS)
    results: Any = as_round([kept, kept], [[fast, fast], [slow, level(200, 1.3 * TARGET_MS)]])
    assert results[Measurement(Kind.BEST_FIXED, OURS, 0)] == slow
    # Where none does, the nearest.
    assert results[Measurement(Kind.BEST_FIXED, OURS, 1)] == fast
    assert results[Measurement(Kind.KEPT, OURS, 1)] == kept


def test_every_level_has_both_its_figures() -> None:
    levels = [level(1, 1)] * len(TARGET_LEVELS)
    results = as_round(levels, [levels])
    figures = [figure for figure in all_figures() if figure.group == "target"]
    assert len(figures) == 2 * len(TARGET_LEVELS)
    assert all(figure.is_apart and figure.is_in(results) for figure in figures)
