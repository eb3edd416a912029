"""Gate: each rendered object is valid for each release of Kubernetes, with no unknown field, and each has a schema."""

import json
from collections.abc import Iterable
from pathlib import Path

from . import custom_resources, kubernetes_schemas
from .chart import KUBERNETES
from .gate import Result
from .manifests import Manifest, label
from .matrix import rendered, rows

Fault = tuple[str, str]  # the object, and what is wrong with it
Faults = dict[Fault, tuple[set[str], str]]  # the releases that have it, and the first row


def check(chart: Path) -> Result:
    """Renders the matrix and validates what comes out."""
    faults: Faults = {}
    objects: dict[tuple[str, str], tuple[Manifest, str]] = {}
    for one in rendered(chart):
        if one.refusal is not None:
            _note(faults, ("helm template", one.refusal), one.kubernetes, one.row.name)
        for manifest in one.manifests:
            objects.setdefault((one.kubernetes, json.dumps(manifest, sort_keys=True)), (manifest, one.row.name))
    ours = {key: found for key, found in objects.items() if kubernetes_schemas.covers(found[0]["apiVersion"])}
    for (release, _), (manifest, row) in ours.items():
        for error in kubernetes_schemas.errors(manifest, release):
            _note(faults, (label(manifest), error), release, row)
    _check_custom({key: found for key, found in objects.items() if key not in ours}, faults)
    releases = f"Kubernetes {KUBERNETES[0]} to {KUBERNETES[-1]}"
    return Result(f"{len(rows(chart))} sets of values, {len(objects)} objects, {releases}", tuple(_lines(faults)))


def _check_custom(objects: dict[tuple[str, str], tuple[Manifest, str]], faults: Faults) -> None:
    found = custom_resources.errors([manifest for manifest, _ in objects.values()])
    for ((release, _), (manifest, row)), errors in zip(objects.items(), found, strict=True):
        for error in errors:
            _note(faults, (label(manifest), error), release, row)


def _note(faults: Faults, fault: Fault, release: str, row: str) -> None:
    faults.setdefault(fault, (set(), row))[0].add(release)


def _lines(faults: Faults) -> Iterable[str]:
    for (thing, error), (releases, row) in faults.items():
        at = "all releases" if len(releases) == len(KUBERNETES) else ", ".join(r for r in KUBERNETES if r in releases)
        yield f"{thing}: {error} [{at}; {row}]"
