"""The report as one HTML page."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pixelserve.interval import wilson

from .content import Headline, ReportContent
from .sections import Section
from .texts import TEXTS

_TEMPLATE = "report.html.jinja"


def render(
    content: ReportContent, sections: Sequence[Section], *, note: str = "", status: str = "", refresh: str = ""
) -> str:
    """Returns the self-contained page with its pictures; all texts are escaped.

    Args:
        content: what the page shows.
        sections: its pictures.
        note: a warning above the pictures.
        status: a line about a run that goes on.
        refresh: the page's refresh header, such as "5" for every five seconds; empty: it stays as it is.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template(_TEMPLATE).render(
        title=content.title,
        headline=content.headline and _headline(content.headline),
        commands=content.headline.next if content.headline else (),
        date=content.headline.date if content.headline else "",
        note=note,
        status=status,
        refresh=refresh,
        metrics=list(_flat(content.metrics)),
        settings=list(_flat(content.settings)),
        versions=list(_flat(content.versions)),
        sections=sections,
        texts=TEXTS,
    )


def _headline(headline: Headline) -> tuple[str, str]:
    """Returns the figure, and what it means."""
    on = f"on {headline.samples:,} {headline.split}"
    if headline.metric != "accuracy":
        claim = "" if headline.claimed is None else f"; the recipe claims {headline.claimed:.4g}"
        return f"{headline.figure:.4g}", f"{headline.metric.replace('_', ' ')} {on}{claim}."
    low, high = wilson(round(headline.figure * headline.samples), headline.samples)
    claim = "" if headline.claimed is None else f"; the recipe claims {100 * headline.claimed:.2f} %"
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    return f"{100 * headline.figure:.2f} %", f"accuracy {on}, {interval}{claim}."


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}: ")
        else:
            yield f"{path}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "–" if value is None else str(value)
