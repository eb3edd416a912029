"""Checks a Helm chart, and the deployment files beside our own, without a cluster.

    python -m deploy.checks [--chart DIR] [--only CHECK] [--json]

Exit code 1 if a check fails or could not run.
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
from .check import CHART, ROOT, Check, CheckError, Result
from .matrix import is_ours

DEPLOY = ROOT / "deploy"
CHECKS = (
    Check("lint", lint.check),
    Check("schemas", schemas.check),
    Check("refusals", refusals.check, own_only=True),
    Check("checkov", policies.check),
    Check("restricted", restricted.check),
    Check("consistency", consistency.check),
    Check("queries", lambda chart: queries.check(chart, DEPLOY / "prometheus"), own_only=True),
    Check("envoy", envoy_config.check),
    Check("kustomize", lambda chart: kustomize.check(chart, DEPLOY / "kustomize"), own_only=True),
    Check("kserve", lambda chart: kserve_objects.check(DEPLOY / "kserve"), own_only=True),
    Check("hadolint", lambda chart: dockerfiles.check(DEPLOY / "images"), own_only=True),
)
SHOWN = 20  # failures per check in the table; --json has all


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    if not (asked.chart / "Chart.yaml").is_file():
        print(f"{asked.chart} is not a chart: it has no Chart.yaml", file=sys.stderr)
        return 2
    chosen = [check for check in CHECKS if _applies(check, asked.chart) and asked.only in (None, check.name)]
    if not chosen:
        print(f"the check {asked.only} applies only to this repository's files; omit --chart", file=sys.stderr)
        return 2
    reports = [_report(check, asked.chart) for check in chosen]
    print(json.dumps(reports, indent=2) if asked.json else _table(reports))
    return int(any(report["failures"] for report in reports))


def _applies(check: Check, chart: Path) -> bool:
    return not check.own_only or is_ours(chart)


def _report(check: Check, chart: Path) -> dict[str, Any]:
    started = time.monotonic()
    print(f"{check.name} …", end=" ", flush=True, file=sys.stderr)
    try:
        result = check.check(chart)
    except (CheckError, RenderError) as error:
        result = Result("could not run", (str(error),))
    except (AttributeError, KeyError, TypeError) as error:
        # An object does not have its kind's shape; the schemas check says which.
        result = Result("could not read the objects", (f"{error!r}; see the check schemas",))
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s", file=sys.stderr)
    return {"check": check.name, "tried": result.tried, "failures": result.failures, "seconds": round(seconds, 1)}


def _table(reports: list[dict[str, Any]]) -> str:
    lines = [f"{'check':<11} {'failures':>8} {'seconds':>7}  tried"]
    lines += [f"{one['check']:<11} {len(one['failures']):>8} {one['seconds']:>7}  {one['tried']}" for one in reports]
    for report in reports:
        lines += [f"\n{report['check']}:"] if report["failures"] else []
        lines += [f"  {failure}" for failure in report["failures"][:SHOWN]]
        if (hidden := len(report["failures"]) - SHOWN) > 0:
            lines.append(f"  and {hidden} more; see --only {report['check']} --json")
    failed = sum(bool(report["failures"]) for report in reports)
    return "\n".join(
        [*lines, "", f"{failed} of {len(reports)} checks failed" if failed else f"OK: {len(reports)} checks"]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.checks",
        description="Checks a Helm chart without a cluster: renders it in many ways and validates the output.",
        epilog="Exit code 1: a check failed or could not run. Checks: "
        + ", ".join(check.name for check in CHECKS)
        + ".",
    )
    parser.add_argument(
        "--chart", type=Path, default=CHART, metavar="DIR", help="a chart's folder (default: PixelServe's)"
    )
    parser.add_argument("--only", choices=[check.name for check in CHECKS], metavar="CHECK", help="run one check")
    parser.add_argument("--json", action="store_true", help="print the report, with every failure, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
