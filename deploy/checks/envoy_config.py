"""Gate: the real Envoy accepts each configuration that the chart writes."""

import tempfile
from pathlib import Path

from . import tools
from .gate import Result
from .manifests import label
from .matrix import rendered

KEY = "envoy.yaml"


def check(chart: Path) -> Result:
    """Validates each different configuration of the matrix once."""
    found = {
        manifest["data"][KEY]: f"{label(manifest)} [{one.row.name}]"
        for one in rendered(chart)
        for manifest in one.manifests
        if manifest["kind"] == "ConfigMap" and KEY in (manifest.get("data") or {})
    }
    failures = [f"{where}: {fault}" for text, where in found.items() if (fault := _fault(text))]
    return Result(f"envoy --mode validate, {len(found)} configurations", tuple(failures))


def _fault(text: str) -> str:
    with tempfile.TemporaryDirectory(prefix="pixelserve-envoy-") as folder:
        file = Path(folder) / KEY
        file.write_text(text)
        done = tools.run("envoy", "--mode", "validate", "--log-level", "error", "--config-path", file)
    return (done.stderr or done.stdout).strip() if done.returncode else ""
