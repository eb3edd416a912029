"""Checks the chart's default objects with all Kubernetes policies of checkov."""

import json
import tempfile
from pathlib import Path
from typing import Any

from . import tools
from .chart import render_text
from .check import CheckError, Result

# Without a key checkov uploads nothing, but would still download its policies' descriptions.
OFFLINE = ("--skip-download", "--skip-results-upload")


def check(chart: Path) -> Result:
    """Renders the defaults and runs checkov on them."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-checkov-") as folder:
        file = Path(folder) / "defaults.yaml"
        file.write_text(render_text(chart))
        results = _results(file)
    skipped = [
        f"{one['check_id']} ({one['check_result'].get('suppress_comment', '')})" for one in results["skipped_checks"]
    ]
    tried = f"checkov, {len(results['passed_checks'])} checks passed, {len(skipped)} skipped"
    tried += f": {'; '.join(sorted(set(skipped)))}" if skipped else ""
    return Result(tried, tuple(map(_line, results["failed_checks"])))


def _results(file: Path) -> dict[str, Any]:
    done = tools.run("checkov", "--file", file, "--framework", "kubernetes", "--output", "json", *OFFLINE)
    try:
        report = json.loads(done.stdout)
        if report.get("resource_count") == 0:
            raise CheckError("checkov has no policy for any of the objects")
        results: dict[str, Any] = report["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(
            f"checkov's report could not be read ({error}): {(done.stderr or done.stdout)[-300:]}"
        ) from error
    return results


def _line(failure: dict[str, Any]) -> str:
    return f"{failure['resource']}: {failure['check_id']} {failure['check_name']}"
