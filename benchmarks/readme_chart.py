"""Draws the README's throughput chart, docs/pictures/throughput.svg, from the figures in this folder's README.

    python -m benchmarks.readme_chart

Triton's ONNX Runtime backend was measured outside the project, against the transport before h2corn. Its bars are
estimates: PixelServe's current rate divided by that ratio, scaled by the cost of h2corn.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_FOLDER = Path(__file__).resolve().parent
_PICTURE = _FOLDER.parent / "docs" / "pictures" / "throughput.svg"
OURS, TRITON_ONNX, TRITON_PYTHON = "PixelServe", "Triton, ONNX Runtime backend (estimate)", "Triton, Python backend"
ALONE = "ONNX Runtime alone, batches of 64"
_COLOURS = {OURS: "#1f77b4", TRITON_ONNX: "#fdae6b", TRITON_PYTHON: "#d95f02"}
_RATE = re.compile(r"([\d,]+)/s")


@dataclass(frozen=True)
class Load:
    """One group of bars."""

    label: str
    """Below the group."""
    row: str
    """The figure's title in the table of benchmarks/README.md."""
    outside: tuple[float, float]
    """Ratio of the former transport's rate to Triton's ONNX Runtime backend's, lowest and highest; 2026-11-28."""
    slower_by: float
    """Ratio of the former transport's rate to h2corn's."""


# From CPU time per request, with one image. With eight, from the shares of ONNX Runtime's rate: 0.87 and 0.65.
LOADS = (
    Load("1 in flight", "requests/s at 1 in flight", (0.93, 0.97), 1.57),
    Load("32 in flight", "requests/s at 32 in flight over 4 connections", (1.38, 1.51), 1.47),
    Load("128 in flight", "requests/s at 128 in flight over 4 connections", (1.56, 1.63), 1.46),
    Load(
        "8 images per request", "images/s by 8 per request, 32 in flight over 4 connections", (1.14, 1.15), 0.87 / 0.65
    ),
)


def estimate(load: Load) -> tuple[float, float]:
    """Returns the estimated ratio of PixelServe's rate to Triton's ONNX Runtime backend's, lowest and highest."""
    low, high = load.outside
    return low / load.slower_by, high / load.slower_by


def read_rates(text: str, row: str) -> dict[str, float]:
    """Returns the images per second of one row, ours and the other side's, by name.

    Raises:
        LookupError: no table has the row, or it has no rates.
    """
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if cells[0] == row:
            _, ours, other, *_ = cells
            name = {"Triton": TRITON_PYTHON, "ONNX Runtime alone": ALONE}[other.partition(":")[0]]
            return {OURS: _rate(ours), name: _rate(other)}
    raise LookupError(f"benchmarks/README.md has no row `{row}`; put its new title into {Path(__file__).name}")


def _rate(cell: str) -> float:
    found = _RATE.search(cell)
    if not found:
        raise LookupError(f"expected a rate such as 4,000/s, found {cell!r}")
    return float(found[1].replace(",", ""))


def draw(text: str, path: Path) -> None:
    """Draws the chart from the text of benchmarks/README.md, and prints the estimates."""
    rates = [read_rates(text, load.row) for load in LOADS]
    # A separate figure instead of pyplot's: needs no display and leaves no state.
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for place, (load, found) in enumerate(zip(LOADS, rates, strict=True)):
        low, high = estimate(load)
        print(f"{load.label}: PixelServe over Triton with ONNX Runtime {low:.2f} to {high:.2f}")
        _bar(axes, place - 0.26, OURS, found[OURS])
        _bar(axes, place, TRITON_ONNX, found[OURS] * (1 / low + 1 / high) / 2, found[OURS] * (1 / low - 1 / high) / 2)
        if TRITON_PYTHON in found:
            _bar(axes, place + 0.26, TRITON_PYTHON, found[TRITON_PYTHON])
    (alone,) = {found[ALONE] for found in rates if ALONE in found}
    axes.axhline(alone, color="#555555", linestyle="--", label=ALONE)
    axes.set_xticks(range(len(LOADS)), [load.label for load in LOADS])
    axes.set_ylabel("images/s")
    axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once, loc="upper left", bbox_to_anchor=(0, 0.9))
    # A constant salt and no date: the same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "pixelserve"}):
        figure.savefig(path, metadata={"Date": None})


def _bar(axes: Axes, place: float, name: str, rate: float, spread: float | None = None) -> None:
    hatch = "//" if name == TRITON_ONNX else None
    axes.bar(place, rate, 0.24, yerr=spread, color=_COLOURS[name], hatch=hatch, edgecolor="white", label=name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=_PICTURE, help="the picture's file")
    draw((_FOLDER / "README.md").read_text(encoding="utf-8"), parser.parse_args().to)
