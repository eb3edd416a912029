"""The renderings of a chart: its values files, and for our chart a covering array of its options.

Each pair of choices of two options is in at least one row, because most template errors come from one option or two in
combination.
"""

import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import covertable
import yaml

from .chart import CUSTOM_APIS, KUBERNETES, RenderError, render, values_files
from .manifests import Manifest
from .options import merge, options

WORKERS = 2  # concurrent Helm processes


@dataclass(frozen=True)
class Row:
    """One way to install the chart."""

    name: str  # the choices, for messages
    files: tuple[Path, ...] = ()  # values files; later ones override earlier ones
    values: Mapping[str, Any] = field(default_factory=dict)  # override the files
    apis: tuple[str, ...] = ()  # of the cluster's custom resources
    since: str = KUBERNETES[0]  # the oldest supported release of Kubernetes


@dataclass(frozen=True)
class Rendered:
    """A row rendered for one release of Kubernetes."""

    row: Row
    kubernetes: str  # such as 1.37
    manifests: tuple[Manifest, ...]
    refusal: str | None  # Helm's message if it refused; then manifests is empty


def rows(chart: Path) -> list[Row]:
    """Returns the rows of a chart: each values file on two kinds of cluster and, for ours, the covering array."""
    shipped: dict[str, tuple[Path, ...]] = {file.name: (file,) for file in values_files(chart)}
    shipped = shipped or {"no values": ()}
    found = [Row(name, files) for name, files in shipped.items()]
    found += [Row(f"{name} with custom resources", files, apis=CUSTOM_APIS) for name, files in shipped.items()]
    return found + list(_pairwise()) if is_ours(chart) else found


def is_ours(chart: Path) -> bool:
    """Returns whether the chart is PixelServe's own or a copy of it."""
    try:
        described = yaml.safe_load((chart / "Chart.yaml").read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(described, dict) and described.get("name") == "pixelserve"


def choices() -> list[dict[str, str]]:
    """Returns the covering array: each row has one choice per option."""
    factors = {name: list(chosen) for name, chosen in options()["options"].items()}
    apart = [
        {
            "operator": "or",
            "conditions": [{"operator": "ne", "left": name, "value": chosen} for name, chosen in pair.items()],
        }
        for pair in options()["impossible"]
    ]
    return list(covertable.make(factors, constraints=apart))


def _pairwise() -> Iterator[Row]:
    known: dict[str, dict[str, dict[str, Any]]] = options()["options"]
    for row in choices():
        values: dict[str, Any] = {}
        for name, chosen in known.items():
            merge(values, chosen[row[name]])
        since = [one["release"] for one in options()["since"] if row[one["option"]] == one["choice"]]
        apis = CUSTOM_APIS if set(row.values()) & set(options()["custom"]) else ()
        named = ", ".join(f"{name}: {chosen}" for name, chosen in row.items())
        yield Row(named, values=values, apis=apis, since=max(since, default=KUBERNETES[0]))


@functools.cache
def rendered(chart: Path) -> tuple[Rendered, ...]:
    """Returns every row for every release of Kubernetes; rendered once, shared by the checks."""
    return rendered_rows(chart, tuple(rows(chart)))


def rendered_rows(chart: Path, chosen: tuple[Row, ...]) -> tuple[Rendered, ...]:
    """Returns some rows, for every release of Kubernetes that they support."""
    jobs = [(row, kubernetes) for row in chosen for kubernetes in KUBERNETES if _minor(kubernetes) >= _minor(row.since)]
    with ThreadPoolExecutor(WORKERS) as pool:
        return tuple(pool.map(lambda job: _render(chart, *job), jobs))


def _minor(release: str) -> int:
    return int(release.partition(".")[2])


def _render(chart: Path, row: Row, kubernetes: str) -> Rendered:
    try:
        manifests = render(chart, files=row.files, values=row.values, kubernetes=kubernetes, apis=row.apis)
    except RenderError as error:
        return Rendered(row, kubernetes, (), str(error))
    return Rendered(row, kubernetes, tuple(manifests), None)
