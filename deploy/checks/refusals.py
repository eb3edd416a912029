"""Gate: the chart refuses values that cannot work, with a message that says so; options.yaml lists them."""

from pathlib import Path
from typing import Any

from .chart import RenderError, render_text
from .gate import Result
from .options import options


def check(chart: Path) -> Result:
    """Renders the chart with each set of values that it must refuse."""
    cases: list[dict[str, Any]] = options()["refused"]
    return Result(f"{len(cases)} sets of impossible values", tuple(f for case in cases if (f := _fault(chart, case))))


def _fault(chart: Path, case: dict[str, Any]) -> str | None:
    try:
        render_text(chart, values=case["values"])
    except RenderError as error:
        said = str(error)
        return None if case["message"] in said else f"{case['why']}: expected {case['message']!r} in: {said[:300]}"
    return f"{case['why']}: accepted"
