"""The report of a run: a table for the terminal, Markdown and JSON for files."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from .figures import Kind, Row, Values

COLUMNS = ("figure", "ours", "against", "ratio, median (lowest to highest)", "floor", "goal", "met")
_FORMATS: dict[str, Callable[[float], str]] = {
    "requests_per_s": lambda value: f"{value:,.0f}/s",
    "images_per_s": lambda value: f"{value:,.0f}/s",
    "p50_us": lambda value: f"{value:,.0f} µs",
    "p99_us": lambda value: f"{value:,.0f} µs",
    "p999_us": lambda value: f"{value:,.0f} µs",
    "refused_us": lambda value: f"{value:,.0f} µs",
    "cpu_s": lambda value: f"{value:,.2f} s",
    "cpu_us": lambda value: f"{value:,.0f} µs",
    "resident_mib": lambda value: f"{value:,.1f} MiB",
    "kib_each": lambda value: f"{value:,.1f} KiB",
    "load_s": lambda value: f"{value:,.2f} s",
    "resident_mb": lambda value: f"{value:,.1f} MB",
    "grown_mb": lambda value: f"{value:,.1f} MB",
}


@dataclass(frozen=True)
class Report:
    """A run's results."""

    facts: Mapping[str, str]
    """The date, machine and versions."""
    rounds: int
    """Measurements of each rate and latency."""
    seconds: float
    """Seconds per measurement."""
    rows: Sequence[Row]
    """The figures."""
    curve: Mapping[str, Sequence[Values]]
    """Values by server at several numbers of requests in flight; empty if not requested."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why groups of figures could not be measured."""

    @property
    def missed(self) -> list[str]:
        """Titles of the figures below their floor."""
        return [row.figure.title for row in self.rows if not row.floor_met]


def cells(row: Row) -> list[str]:
    """Returns a row's text for each of COLUMNS."""
    figure, ratios, decimals = row.figure, row.ratios, row.figure.decimals
    show, show_against = _FORMATS[figure.value], _FORMATS[figure.against_value or figure.value]
    bound = "≥" if figure.more_is_better else "≤"
    against = figure.against_name or figure.against.server
    if against == figure.ours.server:
        against = str(figure.against) if figure.against.kind == Kind.RESIDENT else str(figure.against.kind)
    return [
        figure.title,
        show(statistics.median(row.ours)),
        f"{against}: {show_against(statistics.median(row.against))}",
        f"{row.ratio:.{decimals}f} ({min(ratios):.{decimals}f} to {max(ratios):.{decimals}f})"
        if len(ratios) > 1
        else f"{row.ratio:.3f}",
        *("" if bar is None else f"{bound} {bar:.2f}" for bar in (figure.floor, figure.goal)),
        _verdict(row),
    ]


def _verdict(row: Row) -> str:
    if row.figure.floor is None and row.figure.goal is None:
        return ""
    if not row.floor_met or (row.figure.floor is None and not row.goal_met):
        return "no"
    if row.figure.goal is None:
        return "yes"
    return "goal" if row.goal_met else "floor"


def caption(report: Report) -> str:
    """Returns the table's caption with the measurement's settings."""
    # Some figures have their own rounds.
    counts = sorted({len(row.ratios) for row in report.rows} - {1}) or [report.rounds]
    rounds = " or ".join(map(str, counts))
    return f"rounds: {rounds}, rates over {report.seconds:g} s each; ours and against are medians of the rounds"


def _title(report: Report) -> str:
    return f"PixelServe over {report.facts['transport']}, {report.facts['date']}"


def as_table(report: Report) -> Table:
    """Returns the table for a terminal."""
    table = Table(*COLUMNS, title=_title(report), caption=caption(report))
    for row in report.rows:
        *texts, met = cells(row)
        table.add_row(*texts, f"[{'green' if row.floor_met else 'red'}]{met}")
    return table


def as_markdown(report: Report) -> str:
    """Returns the facts and the table as a page."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in report.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    facts = "\n".join(f"- {name}: {value}" for name, value in report.facts.items())
    failed = "".join(f"- not measured: {group}: {reason}\n" for group, reason in report.failed.items())
    return f"# {_title(report)}\n\n{table}\n\n{caption(report)}.\n\n{facts}\n{failed}"


def as_json(report: Report) -> str:
    """Returns all measurements."""
    figures = [
        {
            "group": row.figure.group,
            "title": row.figure.title,
            "value": row.figure.value,
            "against_value": row.figure.against_value or row.figure.value,
            "ours": str(row.figure.ours),
            "against": str(row.figure.against),
            "ours_values": list(row.ours),
            "against_values": list(row.against),
            "ratios": row.ratios,
            "ratio": row.ratio,
            "floor": row.figure.floor,
            "goal": row.figure.goal,
            "more_is_better": row.figure.more_is_better,
            "floor_met": row.floor_met,
            "goal_met": row.goal_met,
        }
        for row in report.rows
    ]
    whole = {"facts": report.facts, "rounds": report.rounds, "seconds": report.seconds}
    return json.dumps({**whole, "figures": figures, "curve": report.curve, "failed": report.failed}, indent=2) + "\n"
