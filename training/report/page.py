"""The report as one HTML page."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from .content import ReportContent
from .sections import Section
from .texts import TEXTS

_TEMPLATE = "report.html.jinja"


def render(content: ReportContent, sections: Sequence[Section]) -> str:
    """Returns the self-contained page with its pictures; all texts are escaped."""
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
        metrics=list(_flat(content.metrics)),
        settings=list(_flat(content.settings)),
        versions=list(_flat(content.versions)),
        sections=sections,
        texts=TEXTS,
    )


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
