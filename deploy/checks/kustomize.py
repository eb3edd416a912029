"""Checks that deploy/kustomize gives the chart's objects with its values.yaml and the additions in options.yaml."""

import json
from pathlib import Path

from . import tools
from .chart import render
from .check import Result
from .manifests import Manifest, ManifestError, label, load
from .options import options

HOOK = "helm.sh/hook"


def check(chart: Path, kustomize: Path) -> Result:
    """Compares each kustomization with the chart."""
    sources: dict[str, Manifest] = options()["kustomize"]
    failures = [
        f"{name}: {fault}" for name, values in sources.items() for fault in _faults(chart, kustomize, name, values)
    ]
    return Result(f"{len(sources)} kustomizations", tuple(failures))


def _faults(chart: Path, kustomize: Path, name: str, values: Manifest) -> list[str]:
    done = tools.run("kubectl", "kustomize", kustomize / name)
    if done.returncode:
        return [done.stderr.strip()]
    try:
        built = load(done.stdout)
    except ManifestError as error:
        return [str(error)]
    return differences(render(chart, files=[kustomize / "values.yaml"], values=values), built)


def differences(ours: list[Manifest], theirs: list[Manifest]) -> list[str]:
    """Returns the differences of a kustomization's objects from the chart's, one line each, without Helm's hooks."""
    expected = {_key(one): one for one in ours if HOOK not in (one["metadata"].get("annotations") or {})}
    found = {_key(one): one for one in theirs}
    lines = [f"{'/'.join(key)} is only in the chart" for key in expected.keys() - found.keys()]
    lines += [f"{'/'.join(key)} is only in the kustomization" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        lines += [
            f"{label(expected[key])}: {line}" for line in _compare(_normal(expected[key]), _normal(found[key]), "")
        ]
    return sorted(lines)


def _key(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _normal(manifest: Manifest) -> Manifest:
    """Returns the object without a Secret's values, which are random in each rendering."""
    if manifest["kind"] != "Secret":
        return manifest
    secret = {key: value for key, value in manifest.items() if key not in ("data", "stringData")}
    return {**secret, "keys": sorted([*(manifest.get("data") or {}), *(manifest.get("stringData") or {})])}


def _compare(expected: object, found: object, place: str) -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        names = sorted(expected.keys() | found.keys())
        return [
            line
            for name in names
            for line in _compare(expected.get(name), found.get(name), f"{place}.{name}".lstrip("."))
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line for i, pair in enumerate(zip(expected, found, strict=True)) for line in _compare(*pair, f"{place}.{i}")
        ]
    if expected == found:
        return []
    return [f"{place} is {_short(found)} in the kustomization, {_short(expected)} in the chart"]


def _short(value: object) -> str:
    return json.dumps(value, default=str)[:80]
