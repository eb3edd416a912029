"""Checks that each rendered object has a schema, is valid for each release of Kubernetes, and has no unknown field."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import custom_resources, kubernetes_schemas
from .chart import KUBERNETES
from .check import Result
from .manifests import Manifest, label
from .matrix import Rendered, rendered, rows

Fault = tuple[str, str]  # the object, and its errors
Objects = dict[tuple[str, str], tuple[Manifest, str]]  # by release and content: the object and the first row
Faults = dict[Fault, tuple[set[str], str]]  # the affected releases, and the first row


def check(chart: Path) -> Result:
    """Renders the matrix and validates the objects."""
    all_rendered = rendered(chart)
    objects = _objects(all_rendered)
    releases = f"Kubernetes {KUBERNETES[0]} to {KUBERNETES[-1]}"
    tried = f"{len(rows(chart))} sets of values, {len(objects)} objects, {releases}"
    return Result(tried, tuple(_lines(faults(all_rendered))))


def faults(renderings: Sequence[Rendered]) -> Faults:
    """Returns the errors in the objects of some renderings, and Helm's refusals."""
    found: Faults = {}
    for one in renderings:
        if one.refusal is not None:
            _note(found, ("helm template", one.refusal), one.kubernetes, one.row.name)
    objects = _objects(renderings)
    ours = {key: seen for key, seen in objects.items() if kubernetes_schemas.covers(seen[0]["apiVersion"])}
    for (release, _), (manifest, row) in ours.items():
        for error in kubernetes_schemas.errors(manifest, release):
            _note(found, (label(manifest), error), release, row)
    _check_custom({key: seen for key, seen in objects.items() if key not in ours}, found)
    return found


def _objects(renderings: Sequence[Rendered]) -> Objects:
    """Returns each distinct object per release once, with the first row that has it."""
    objects: Objects = {}
    for one in renderings:
        for manifest in one.manifests:
            objects.setdefault((one.kubernetes, json.dumps(manifest, sort_keys=True)), (manifest, one.row.name))
    return objects


def _check_custom(objects: Objects, found: Faults) -> None:
    errors = custom_resources.errors([manifest for manifest, _ in objects.values()])
    for ((release, _), (manifest, row)), lines in zip(objects.items(), errors, strict=True):
        for error in lines:
            _note(found, (label(manifest), error), release, row)


def _note(found: Faults, fault: Fault, release: str, row: str) -> None:
    found.setdefault(fault, (set(), row))[0].add(release)


def _lines(found: Faults) -> Iterable[str]:
    for (thing, error), (releases, row) in found.items():
        at = "all releases" if len(releases) == len(KUBERNETES) else ", ".join(r for r in KUBERNETES if r in releases)
        yield f"{thing}: {error} [{at}; {row}]"
