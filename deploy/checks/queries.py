"""Checks that Prometheus's rules and the chart's scaling queries are valid and pass their tests.

queries.yaml has the tests of the queries.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from . import tools
from .chart import CUSTOM_APIS, NAMESPACE, render
from .check import Result
from .manifests import Manifest, label
from .matrix import rendered

TESTS = Path(__file__).with_name("queries.yaml")
ADAPTER = Path("files") / "prometheus-adapter.yaml"
INTERVAL_S = 15
SAMPLES = 20
# prometheus-adapter's substitutions when an autoscaler requests a metric of these pods.
ADAPTER_NAMES = {
    "<<.LabelMatchers>>": f'namespace="{NAMESPACE}",pod=~"pixelserve-7d9-a|pixelserve-7d9-b"',
    "<<.GroupBy>>": "pod",
}


def check(chart: Path, prometheus: Path) -> Result:
    """Runs promtool on the rules in a folder, on the chart's rules, and on the scaling queries."""
    described = yaml.safe_load(TESTS.read_text())
    failures = [*rule_faults(prometheus), *_installed_rule_faults(chart), *sorted(set(_unmade_metrics(chart)))]
    failures += scaling_faults(chart, described)
    return Result(f"promtool, {len(described['tests'])} tests of scaling queries, the rules", tuple(failures))


def scaling_faults(chart: Path, described: dict[str, Any]) -> list[str]:
    """Returns scaling queries without a test or with a failing one, and tests without a query, one line each."""
    found = dict(_queries(chart, described["values"]))
    tests = described["tests"]
    failures = [f"{name}: no test in {TESTS.name}" for name in found.keys() - {test["query"] for test in tests}]
    for test in tests:
        if test["query"] not in found:
            failures.append(f"{test['query']}: {TESTS.name} tests it, but the chart has no such query")
        else:
            failures += _faults(found[test["query"]], test)
    return failures


def _queries(chart: Path, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields each scaling query with its name in queries.yaml."""
    for rule in _adapter_rules(chart):
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        for name, text in ADAPTER_NAMES.items():
            query = query.replace(name, text)
        yield f"adapter {rule['name']['as']}", query
    for manifest in render(chart, values=values, apis=CUSTOM_APIS):
        if manifest["kind"] == "ScaledObject":
            for index, trigger in enumerate(manifest["spec"]["triggers"]):
                yield f"trigger {index}", trigger["metadata"]["query"]


def _adapter_rules(chart: Path) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load((chart / ADAPTER).read_text())["rules"]["custom"]
    return rules


def _unmade_metrics(chart: Path) -> Iterator[str]:
    """Yields the autoscalers' metrics that no rule of the adapter creates; these autoscalers would never scale."""
    made = {rule["name"]["as"] for rule in _adapter_rules(chart)}
    for manifest in _installed(chart, "HorizontalPodAutoscaler"):
        for metric in manifest["spec"]["metrics"]:
            if metric["type"] == "Pods" and metric["pods"]["metric"]["name"] not in made:
                yield f"{label(manifest)}: reads {metric['pods']['metric']['name']}, which no rule of {ADAPTER} makes"


def _installed(chart: Path, kind: str) -> Iterator[Manifest]:
    return (manifest for one in rendered(chart) for manifest in one.manifests if manifest["kind"] == kind)


def rule_faults(folder: Path) -> Iterator[str]:
    """Yields promtool's errors for the rules in a folder and their tests."""
    for command in (("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")):
        done = tools.run("promtool", *command, folder=folder)
        if done.returncode:
            yield f"promtool {' '.join(command)}: {(done.stdout + done.stderr).strip()}"


def _installed_rule_faults(chart: Path) -> Iterator[str]:
    groups = {json.dumps(manifest["spec"]) for manifest in _installed(chart, "PrometheusRule")}
    for text in groups:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(text)
            file.flush()
            done = tools.run("promtool", "check", "rules", file.name)
        if done.returncode:
            yield f"the chart's PrometheusRule: {(done.stdout + done.stderr).strip()}"


def _faults(query: str, test: dict[str, Any]) -> list[str]:
    """Returns promtool's errors for one test of a query."""
    series = [
        {"series": name, "values": f"0+{per_second * INTERVAL_S}x{SAMPLES}"}
        for name, per_second in test["rises"].items()
    ]
    expected = [{"labels": labels, "value": value} for labels, value in test["gives"].items()]
    moment = f"{INTERVAL_S * SAMPLES}s"
    # Rounded, because the rate of a linear increase is exact except for its last bits.
    asked = [{"expr": f"round({query}, 0.001)", "eval_time": moment, "exp_samples": expected}]
    case = {"interval": f"{INTERVAL_S}s", "input_series": series, "promql_expr_test": asked}
    with tempfile.TemporaryDirectory(prefix="pixelserve-queries-") as folder:
        file = Path(folder) / "test.yml"
        file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [case]}))
        done = tools.run("promtool", "test", "rules", file)
    return [f"{test['query']}: {test['name']}: {(done.stdout + done.stderr).strip()}"] if done.returncode else []
