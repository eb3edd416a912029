"""Checks that Envoy accepts each configuration of the chart."""

import json
import tempfile
from pathlib import Path

from . import tools
from .check import Result
from .manifests import label
from .matrix import rendered

KEY = "envoy.yaml"
MOUNT = "/etc/envoy"  # where pods mount the ConfigMap's files, which refer to each other


def check(chart: Path) -> Result:
    """Validates each distinct configuration of the matrix once."""
    found = {
        json.dumps(manifest["data"]): f"{label(manifest)} [{one.row.name}]"
        for one in rendered(chart)
        for manifest in one.manifests
        if manifest["kind"] == "ConfigMap" and KEY in (manifest.get("data") or {})
    }
    failures = [f"{where}: {fault}" for files, where in found.items() if (fault := _fault(json.loads(files)))]
    return Result(f"envoy --mode validate, {len(found)} configurations", tuple(failures))


def _fault(files: dict[str, str]) -> str:
    with tempfile.TemporaryDirectory(prefix="pixelserve-envoy-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text.replace(MOUNT, folder))
        done = tools.run("envoy", "--mode", "validate", "--log-level", "error", "--config-path", Path(folder) / KEY)
    return (done.stderr or done.stdout).strip() if done.returncode else ""
