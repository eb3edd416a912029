"""Charts of throughput and p99 against load."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from .figures import LEVELS, OURS, Values

COLOURS = {OURS: "#1f77b4"}
OTHER_COLOUR = "#d95f02"


def draw(curve: Mapping[str, Sequence[Values]], folder: Path) -> list[Path]:
    """Writes throughput.png and p99.png; returns their paths."""
    pictures = {
        "throughput.png": ("requests_per_s", "requests/s", 1.0, "linear"),
        "p99.png": ("p99_us", "p99 latency, ms", 1e-3, "log"),
    }
    return [_draw(curve, folder / name, *what) for name, what in pictures.items()]


def _draw(curve: Mapping[str, Sequence[Values]], path: Path, value: str, label: str, factor: float, scale: str) -> Path:
    # A separate figure instead of pyplot's: needs no display and leaves no state.
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, points in curve.items():
        levels = [point["in_flight"] for point in points]
        axes.plot(
            *(levels, [point[value] * factor for point in points]),
            marker="o",
            color=COLOURS.get(name, OTHER_COLOUR),
            label=name,
        )
    # Set the scale first, because it sets its own ticks.
    axes.set_xscale("log", base=2)
    axes.set_xticks(LEVELS, [str(level) for level in LEVELS])
    axes.set_yscale(scale)
    if scale == "linear":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("requests in flight (one image each)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    return path
