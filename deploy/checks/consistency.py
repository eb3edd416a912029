"""Checks that the objects of each rendering fit together: selectors find pods, ports and volumes exist."""

from pathlib import Path

from .chart import KUBERNETES
from .check import Result
from .matrix import rendered
from .references import faults


def check(chart: Path) -> Result:
    """Checks each set of values once, as rendered for the newest release of Kubernetes."""
    newest = [one for one in rendered(chart) if one.kubernetes == KUBERNETES[-1]]
    failures: dict[str, str] = {}
    for one in newest:
        for fault in faults(list(one.manifests)):
            failures.setdefault(fault, one.row.name)
    return Result(f"{len(newest)} sets of values", tuple(f"{fault} [{row}]" for fault, row in failures.items()))
