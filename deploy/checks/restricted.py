"""Checks that every pod meets the restricted profile of the Pod Security Standards, so namespaces may enforce it."""

import json
from pathlib import Path

from .check import Result
from .matrix import rendered
from .pod_security import CONTROLS, faults
from .pods import Pod, pods


def check(chart: Path) -> Result:
    """Checks every pod of the matrix once."""
    found: dict[str, tuple[Pod, str]] = {}
    for one in rendered(chart):
        for pod in pods(list(one.manifests)):
            found.setdefault(json.dumps([pod.owner, pod.metadata, pod.spec], sort_keys=True), (pod, one.row.name))
    failures: dict[str, str] = {}
    for pod, row in found.values():
        for fault in faults(pod):
            failures.setdefault(f"{pod.owner}: {fault}", row)
    tried = f"{len(CONTROLS)} controls on {len(found)} different pods"
    return Result(tried, tuple(f"{fault} [{row}]" for fault, row in failures.items()))
