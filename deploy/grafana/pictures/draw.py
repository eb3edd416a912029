"""A row of panels as a PNG file, in the style of the reports' pictures."""

import io
from collections.abc import Callable, Mapping, Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .panels import Panel, PanelError, Series

# Okabe and Ito 2008, "Color Universal Design": told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
_LIGHT_GREY = "#E4E4E4"
_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "grid.color": _LIGHT_GREY,
    "legend.frameon": False,
    "legend.fontsize": 7,
    # A label is shown as it is; "$" would start a formula.
    "text.parse_math": False,
}
_GRID_COLUMNS = 24
_SIZE_IN = (12.0, 2.9)
_DPI = 110

# Unit by Grafana's name: what stands beside the axis, and how many of it are one of the metric's.
_UNITS = {
    "": ("", 1.0),
    "short": ("", 1.0),
    "reqps": ("requests/s", 1.0),
    "rps": ("rows/s", 1.0),
    "percentunit": ("%", 100.0),
    "bytes": ("MiB", 2.0**-20),
}
_SECONDS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
# Labels that say which server it was, which is another each time, and the metric's name.
_UNSHOWN = {"__name__", "instance", "job"}


def picture(row: Sequence[Panel], shown: Mapping[str, Sequence[Series]]) -> bytes:
    """Returns a row of panels as the bytes of a PNG file, which holds no date and no version.

    Args:
        row: its panels, each at its place in Grafana's grid of 24 columns.
        shown: what each panel shows, by its title.

    Raises:
        PanelError: a panel shows nothing, or is of a type or unit that cannot be drawn.
    """
    buffer = io.BytesIO()
    with style.context(["default", _STYLE]):
        # A figure of its own rather than pyplot's: no display is looked for, and no state is left behind.
        figure = Figure(figsize=_SIZE_IN, layout="constrained")
        grid = figure.add_gridspec(1, _GRID_COLUMNS, wspace=0)
        for panel in row:
            _draw(figure.add_subfigure(grid[0, panel.x : panel.x + panel.width]), panel, shown.get(panel.title, ()))
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _draw(place: SubFigure, panel: Panel, series: Sequence[Series]) -> None:
    if panel.kind not in KINDS:
        raise PanelError(
            f"panel {panel.title!r}: is of type {panel.kind!r}, expected one of {', '.join(KINDS)}; "
            f"write a function for it in deploy/grafana/pictures/draw.py"
        )
    if not any(each.points for each in series):
        raise PanelError(f"panel {panel.title!r}: expected series with points, got none; ask Prometheus for them first")
    axes = place.subplots()
    axes.set_title(panel.title)
    KINDS[panel.kind](axes, panel, series)


def _lines(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    name, factor = _unit(panel, series)
    # Those with the greatest values have the colours; a legend of all could not be read.
    series = sorted(series, key=_greatest, reverse=True)
    named, others = series[: len(COLOURS)], series[len(COLOURS) :]
    for each in others:
        axes.plot(*_minutes(each, factor), color=_LIGHT_GREY, linewidth=1, label=f"{len(others)} more")
    for each in sorted(named, key=lambda each: each.name):
        axes.plot(*_minutes(each, factor), linewidth=1.3, label=each.name)
    axes.set_ylim(0, _greatest(series[0]) * factor * 1.08 or 1)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel(name)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.grid()
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    columns = 2 if max(map(len, handles)) > 12 else 4
    axes.figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=columns)


def _minutes(series: Series, factor: float) -> tuple[list[float], list[float]]:
    return [time_s / 60 for time_s, _ in series.points], [value * factor for _, value in series.points]


def _greatest(series: Series) -> float:
    return max(value for _, value in series.points)


def _unit(panel: Panel, series: Sequence[Series]) -> tuple[str, float]:
    """Returns the unit to show, and how many of it are one of the metric's."""
    if panel.unit == "s":
        greatest = max(map(_greatest, series))
        return next((each for each in _SECONDS if greatest * each[1] >= 1), _SECONDS[-1])
    if panel.unit not in _UNITS:
        raise PanelError(
            f"panel {panel.title!r}: has the unit {panel.unit!r}, expected one of s, "
            f"{', '.join(filter(None, _UNITS))}; add it in deploy/grafana/pictures/draw.py"
        )
    return _UNITS[panel.unit]


def _number(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    """Draws the last value of each series."""
    name, factor = _unit(panel, series)
    axes.set_axis_off()
    for index, each in enumerate(series):
        y = 1 - (index + 0.5) / len(series)
        text = f"{each.points[-1][1] * factor:,.4g} {name}".strip()
        axes.text(0.5, y, text, ha="center", va="center", fontsize=24 / len(series) ** 0.5, color=COLOURS[0])
        if len(series) > 1:
            axes.text(0, y, each.name, va="center")


def _table(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    """Draws the labels of each series that is there at the end."""
    end_s = max(each.points[-1][0] for each in series)
    rows = [each.labels for each in series if each.points[-1][0] == end_s]
    columns = sorted({name for labels in rows for name in labels} - _UNSHOWN)
    axes.set_axis_off()
    cells = [[labels.get(name, "") for name in columns] for labels in rows]
    table = axes.table(cells, colLabels=columns, loc="upper center", cellLoc="left", colLoc="left")
    # It may be larger than the panel, which must not push the others away.
    table.set_in_layout(False)
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(columns))))
    for (line, _), cell in table.get_celld().items():
        cell.set(
            edgecolor=_LIGHT_GREY,
            facecolor=_LIGHT_GREY if line == 0 else "white",
            height=min(0.12, 1 / (len(rows) + 1)),
        )


KINDS: dict[str, Callable[[Axes, Panel, Sequence[Series]], None]] = {
    "timeseries": _lines,
    "stat": _number,
    "table": _table,
}
"""Who draws it, by Grafana's name of the panel's type."""
