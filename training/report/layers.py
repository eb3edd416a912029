"""The table of a network's layers, as a picture."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from .content import Layer
from .style import LIGHT_GREY, WIDTH_IN, picture, shorten

_HEADINGS = ("layer", "kind", "output shape", "parameters")

_ROW_IN = 0.26
# Left edges of the columns and the right edge of the last, as fractions of the width.
_COLUMNS = (0.02, 0.35, 0.60, 0.98)
_CHARACTERS = (28, 20, 20, 20)
# The picture is limited; the page's table has all layers.
_MOST_LAYERS = 150


def table(layers: Sequence[Layer]) -> list[tuple[str, str, str, str]]:
    """Returns the table's texts: headings, one row per layer, and the total number of parameters."""
    total = sum(layer.parameters for layer in layers)
    body = [(layer.name, layer.kind, _shape(layer), f"{layer.parameters:,}") for layer in layers]
    return [_HEADINGS, *body, ("total", "", "", f"{total:,}")]


@picture
def layer_table(layers: Sequence[Layer]) -> Figure:
    """Draws the first 150 layers with name, kind, output shape and parameters."""
    lines = table(layers)
    if len(layers) > _MOST_LAYERS:
        lines[_MOST_LAYERS + 1 : -1] = [(f"… {len(layers) - _MOST_LAYERS} more", "", "", "")]
    drawn = Figure(figsize=(WIDTH_IN, _ROW_IN * (len(lines) + 0.5)))
    axes = drawn.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(len(lines) + 0.25, -0.25))
    axes.set_axis_off()
    for row, line in enumerate(lines):
        if row % 2:
            axes.axhspan(row, row + 1, color=LIGHT_GREY, alpha=0.5, linewidth=0)
        weight = "bold" if row in (0, len(lines) - 1) else "normal"
        for place, text, characters in zip(_COLUMNS, line, _CHARACTERS, strict=True):
            side = "right" if place == _COLUMNS[-1] else "left"
            axes.text(place, row + 0.5, shorten(text, characters), ha=side, va="center", weight=weight, fontsize=9)
    return drawn


def _shape(layer: Layer) -> str:
    return " × ".join("N" if size is None else f"{size}" for size in layer.output_shape)
