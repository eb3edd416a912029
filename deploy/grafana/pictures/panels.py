"""What dashboard.json says of its panels, and what Prometheus answers to their queries."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
# Metrics that are there where a GPU is.
_OF_GPUS = "nv_gpu_"


class PanelError(Exception):
    """A panel cannot be drawn; the message says which, why, and what to do."""


class Prometheus(Protocol):
    """Answers queries: /api/v1/PATH with these parameters, of which it returns `data`."""

    def ask(self, path: str, **parameters: str) -> Any: ...


@dataclass(frozen=True)
class Target:
    """One of a panel's queries."""

    query: str
    """In Prometheus's language."""
    legend: str
    """A series's name, with {{label}} for a label's value; empty: its labels."""


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str
    """Its headline."""
    kind: str
    """Grafana's name of its type, such as timeseries."""
    unit: str
    """Grafana's name of its unit, such as percentunit; empty: it has none."""
    x: int
    """Its left edge, of Grafana's 24 columns."""
    width: int
    """Its columns."""
    row: int
    """Its upper edge."""
    targets: tuple[Target, ...]
    """What it asks."""

    @property
    def needs_gpu(self) -> bool:
        """Whether it is empty where there is no GPU."""
        return all(_OF_GPUS in target.query for target in self.targets)


@dataclass(frozen=True)
class Span:
    """The time that is looked at."""

    start_s: float
    """Since 1970."""
    end_s: float
    """Since 1970."""
    step_s: float
    """Between two points."""


@dataclass(frozen=True)
class Series:
    """What one line shows."""

    name: str
    """For the legend."""
    labels: dict[str, str]
    """All of its labels."""
    points: tuple[tuple[float, float], ...]
    """Seconds since the beginning of the span, and values; no NaN is among them."""


def read_rows(text: str) -> list[list[Panel]]:
    """Returns the panels of a dashboard, given as JSON, by rows from above, each from the left."""
    panels = sorted((_panel(each) for each in json.loads(text)["panels"]), key=lambda panel: (panel.row, panel.x))
    return [list(row) for _, row in groupby(panels, key=lambda panel: panel.row)]


def _panel(described: Any) -> Panel:
    place = described["gridPos"]
    targets = (Target(each["expr"], each.get("legendFormat", "")) for each in described["targets"])
    unit = described["fieldConfig"]["defaults"].get("unit", "")
    return Panel(described["title"], described["type"], unit, place["x"], place["w"], place["y"], tuple(targets))


def answers(panel: Panel, prometheus: Prometheus, span: Span) -> list[Series]:
    """Returns what a panel shows.

    Raises:
        PanelError: one of its queries is answered with nothing, or with no number.
    """
    return [series for target in panel.targets for series in _answers(panel, target, prometheus, span)]


def _answers(panel: Panel, target: Target, prometheus: Prometheus, span: Span) -> Sequence[Series]:
    found = prometheus.ask(
        "query_range", query=target.query, start=str(span.start_s), end=str(span.end_s), step=str(span.step_s)
    )["result"]
    series = [Series(_name(target, each["metric"]), each["metric"], _points(each["values"], span)) for each in found]
    if not any(each.points for each in series):
        raise PanelError(
            f"panel {panel.title!r}: expected numbers for {target.query!r}, and Prometheus has none from "
            f"{span.start_s:.0f} to {span.end_s:.0f}; look whether the metric is still called that, "
            f"and whether the load makes it"
        )
    return [each for each in series if each.points]


def _points(values: Iterable[tuple[float, str]], span: Span) -> tuple[tuple[float, float], ...]:
    points = ((time_s - span.start_s, float(value)) for time_s, value in values)
    return tuple((time_s, value) for time_s, value in points if math.isfinite(value))


def _name(target: Target, labels: dict[str, str]) -> str:
    if not target.legend:
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), target.legend)
