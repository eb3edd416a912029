"""Checks each of the chart's values files with `helm lint --strict`."""

from pathlib import Path

from . import tools
from .chart import KUBERNETES, NAMESPACE, values_files
from .check import Result


def check(chart: Path) -> Result:
    """Lints the chart with each values file."""
    shipped = {file.name: ["--values", str(file)] for file in values_files(chart)} or {"no values": []}
    failures = [f"{name}: {line}" for name, values in shipped.items() for line in _complaints(chart, values)]
    return Result(f"helm lint --strict, {len(shipped)} values files", tuple(failures))


def _complaints(chart: Path, values: list[str]) -> list[str]:
    options = ["--strict", "--quiet", "--namespace", NAMESPACE, "--kube-version", KUBERNETES[-1], *values]
    done = tools.run("helm", "lint", str(chart), *options)
    if not done.returncode:
        return []
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]
    return said or [done.stderr.strip() or f"helm lint ended with exit code {done.returncode}"]
