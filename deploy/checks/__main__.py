"""Checks a Helm chart, and the files beside ours, without a cluster.

    python -m deploy.checks [--chart DIR] [--only GATE] [--json]

Exit code 1 if a gate fails or could not run.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import (
    consistency,
    dockerfiles,
    envoy_config,
    kserve_objects,
    kustomize,
    lint,
    policies,
    queries,
    refusals,
    restricted,
    schemas,
)
from .chart import RenderError
from .gate import CHART, ROOT, CheckError, Gate, Result
from .matrix import is_ours

DEPLOY = ROOT / "deploy"
GATES = (
    Gate("lint", lint.check),
    Gate("schemas", schemas.check),
    Gate("refusals", refusals.check, own_only=True),
    Gate("checkov", policies.check),
    Gate("restricted", restricted.check),
    Gate("consistency", consistency.check),
    Gate("queries", lambda chart: queries.check(chart, DEPLOY / "prometheus"), own_only=True),
    Gate("envoy", envoy_config.check),
    Gate("kustomize", lambda chart: kustomize.check(chart, DEPLOY / "kustomize"), own_only=True),
    Gate("kserve", lambda chart: kserve_objects.check(DEPLOY / "kserve"), own_only=True),
    Gate("hadolint", lambda chart: dockerfiles.check(DEPLOY / "images"), own_only=True),
)
SHOWN = 20  # failures of a gate that the table prints; --json has all


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    if not (asked.chart / "Chart.yaml").is_file():
        print(f"{asked.chart} is not a chart: it has no Chart.yaml", file=sys.stderr)
        return 2
    chosen = [gate for gate in GATES if _applies(gate, asked.chart) and asked.only in (None, gate.name)]
    if not chosen:
        print(f"the gate {asked.only} checks this repository's files; leave out --chart", file=sys.stderr)
        return 2
    reports = [_report(gate, asked.chart) for gate in chosen]
    print(json.dumps(reports, indent=2) if asked.json else _table(reports))
    return int(any(report["failures"] for report in reports))


def _applies(gate: Gate, chart: Path) -> bool:
    return not gate.own_only or is_ours(chart)


def _report(gate: Gate, chart: Path) -> dict[str, Any]:
    started = time.monotonic()
    print(f"{gate.name} …", end=" ", flush=True, file=sys.stderr)
    try:
        result = gate.check(chart)
    except (CheckError, RenderError) as error:
        result = Result("could not run", (str(error),))
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s", file=sys.stderr)
    return {"gate": gate.name, "tried": result.tried, "failures": result.failures, "seconds": round(seconds, 1)}


def _table(reports: list[dict[str, Any]]) -> str:
    lines = [f"{'gate':<11} {'failures':>8} {'seconds':>7}  tried"]
    lines += [f"{one['gate']:<11} {len(one['failures']):>8} {one['seconds']:>7}  {one['tried']}" for one in reports]
    for report in reports:
        lines += [f"\n{report['gate']}:"] if report["failures"] else []
        lines += [f"  {failure}" for failure in report["failures"][:SHOWN]]
        if (hidden := len(report["failures"]) - SHOWN) > 0:
            lines.append(f"  and {hidden} more; see --only {report['gate']} --json")
    failed = sum(bool(report["failures"]) for report in reports)
    return "\n".join(
        [*lines, "", f"{failed} of {len(reports)} gates failed" if failed else f"OK: {len(reports)} gates"]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.checks",
        description="Checks a Helm chart without a cluster: renders it in many ways and validates what comes out.",
        epilog="Exit code 1: a gate failed or could not run. Gates: " + ", ".join(gate.name for gate in GATES) + ".",
    )
    parser.add_argument(
        "--chart", type=Path, default=CHART, metavar="DIR", help="a chart's folder (default: PixelServe's)"
    )
    parser.add_argument("--only", choices=[gate.name for gate in GATES], metavar="GATE", help="run one gate")
    parser.add_argument("--json", action="store_true", help="print the report, with every failure, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
