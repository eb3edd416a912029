"""Gate: `helm lint --strict` has nothing to say about any of the chart's files of values."""

from pathlib import Path

from . import tools
from .chart import KUBERNETES, NAMESPACE, values_files
from .gate import Result


def check(chart: Path) -> Result:
    """Lints the chart with each file of values."""
    files = values_files(chart)
    failures = [f"{file.name}: {line}" for file in files for line in _complaints(chart, file)]
    return Result(f"helm lint --strict, {len(files)} files of values", tuple(failures))


def _complaints(chart: Path, file: Path) -> list[str]:
    options = ["--strict", "--quiet", "--namespace", NAMESPACE, "--kube-version", KUBERNETES[-1], "--values", str(file)]
    done = tools.run("helm", "lint", str(chart), *options)
    if not done.returncode:
        return []
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]
    return said or [done.stderr.strip() or f"helm lint ended with exit code {done.returncode}"]
