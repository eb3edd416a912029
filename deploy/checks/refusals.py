"""Checks that the chart refuses the impossible values in options.yaml, with a message."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .chart import KUBERNETES, RenderError, render_text
from .check import Result
from .options import merge, options


def check(chart: Path) -> Result:
    """Renders the chart with each set of values that it must refuse."""
    cases: list[dict[str, Any]] = options()["refused"]
    failures = [fault for case in cases if (fault := _fault(chart, case))]
    failures += [*_accepted_pairs(chart), *_accepted_releases(chart)]
    tried = f"{len(cases)} sets of impossible values, {len(options()['impossible'])} pairs of choices"
    return Result(tried, tuple(failures))


def _fault(chart: Path, case: dict[str, Any]) -> str | None:
    said = _refusal(chart, case["values"])
    if said is None:
        return f"{case['why']}: accepted"
    return None if case["message"] in said else f"{case['why']}: expected {case['message']!r} in: {said[:300]}"


def _refusal(chart: Path, values: dict[str, Any], kubernetes: str = KUBERNETES[-1]) -> str | None:
    try:
        render_text(chart, values=values, kubernetes=kubernetes)
    except RenderError as error:
        return str(error)
    return None


def _accepted_pairs(chart: Path) -> Iterator[str]:
    """Yields the pairs that the matrix omits but the chart accepts; they belong in the matrix."""
    for pair in options()["impossible"]:
        values: dict[str, Any] = {}
        for name, choice in pair.items():
            merge(values, options()["options"][name][choice])
        if _refusal(chart, values) is None:
            yield f"{pair} is listed as impossible: accepted"


def _accepted_releases(chart: Path) -> Iterator[str]:
    """Yields the choices that the chart accepts on a release of Kubernetes that is too old for them."""
    for one in options()["since"]:
        older = KUBERNETES[KUBERNETES.index(one["release"]) - 1]
        if _refusal(chart, options()["options"][one["option"]][one["choice"]], older) is None:
            yield f"{one['option']}: {one['choice']} needs Kubernetes {one['release']}: accepted on {older}"
