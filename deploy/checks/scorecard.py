"""Compares the defaults of charts side by side in a Markdown table.

    python -m deploy.checks.scorecard DIR...

deploy/scorecard.md has the table for other projects' charts, with their commits.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import kubernetes_schemas, lint, pod_security, policies, references, schemas
from .chart import CUSTOM_APIS, KUBERNETES, render
from .check import CheckError
from .kustomize import HOOK
from .manifests import Manifest
from .matrix import Row, rendered_rows
from .pods import Pod, pods


@dataclass(frozen=True)
class Subject:
    """A chart and its default objects."""

    chart: Path
    plain: list[Manifest]  # on a cluster without custom resources
    full: list[Manifest]  # on one with all of them

    def templates(self) -> str:
        """Returns the text of all templates."""
        files = sorted((self.chart / "templates").rglob("*"))
        return "\n".join(file.read_text() for file in files if file.suffix in (".yaml", ".yml", ".tpl"))


def subject(chart: Path) -> Subject:
    """Renders a chart with its defaults."""
    return Subject(chart, render(chart), render(chart, apis=CUSTOM_APIS))


def restricted(one: Subject) -> str:
    found = [f"{pod.owner}: {fault}" for pod in pods(one.plain) for fault in pod_security.faults(pod)]
    return f"no, {len(found)} faults" if found else "yes"


def checkov(one: Subject) -> str:
    try:
        return str(len(policies.check(one.chart).failures))
    except CheckError as error:
        return f"– ({error})"


def invalid(one: Subject) -> str:
    row = Row("defaults", (one.chart / "values.yaml",))
    found = schemas.faults(rendered_rows(one.chart, (row,)))
    releases = [release for release in KUBERNETES if any(release in at for at, _ in found.values())]
    return f"{len(found)}, on {releases[0]} to {releases[-1]}" if found else "0"


def gone(one: Subject) -> str:
    """Returns the templates' Kubernetes APIs that the newest release lacks."""
    asked = re.findall(r"^apiVersion: *(\S+)\nkind: *(\w+)", one.templates(), re.MULTILINE)
    missing = {
        f"{kind} {api}"
        for api, kind in asked
        if "{" not in api and kubernetes_schemas.covers(api) and not kubernetes_schemas.known(api, kind, KUBERNETES[-1])
    }
    return ", ".join(sorted(missing)) or "none"


def unconditional(one: Subject) -> str:
    kinds = {manifest["kind"] for manifest in one.plain if not kubernetes_schemas.covers(manifest["apiVersion"])}
    return ", ".join(sorted(kinds)) or "none"


def has(*kinds: str) -> Any:
    """Returns a fact: whether one of the kinds is installed by default, or is in a template."""

    def fact(one: Subject) -> str:
        if installed := {manifest["kind"] for manifest in one.full} & set(kinds):
            return f"by default ({', '.join(sorted(installed))})" if len(kinds) > 1 else "by default"
        written = [kind for kind in kinds if re.search(rf"^ *kind: *{kind}\b", one.templates(), re.MULTILINE)]
        return (f"on request ({', '.join(written)})" if len(kinds) > 1 else "on request") if written else "no"

    return fact


def values_schema(one: Subject) -> str:
    file = one.chart / "values.schema.json"
    if not file.exists():
        return "none"
    described = list(_objects(json.loads(file.read_text())))
    closed = sum(1 for schema in described if schema.get("additionalProperties") is False)
    return f"closed: {closed} of {len(described)} objects" if closed else "open"


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yields each part of a JSON schema with properties."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


def grace(one: Subject) -> str:
    """Returns, per kind of Deployment, the seconds until the kill and the preStop hook."""
    deployments = [manifest for manifest in one.plain if manifest["kind"] in ("Deployment", "StatefulSet")]
    return "; ".join(dict.fromkeys(map(_stop, pods(deployments)))) or "–"


def _stop(pod: Pod) -> str:
    hooks = [hook for one in pod.containers() if (hook := (one.get("lifecycle") or {}).get("preStop"))]
    hook = f"`{json.dumps(hooks[0].get('exec', hooks[0]).get('command', hooks[0]))}`" if hooks else "none"
    return f"{pod.spec.get('terminationGracePeriodSeconds', '30 (default)')} s, preStop: {hook}"


def helm_tests(one: Subject) -> str:
    annotations = [manifest["metadata"].get("annotations") or {} for manifest in one.plain]
    return str(sum("test" in str(noted.get(HOOK, "")) for noted in annotations))


def linted(one: Subject) -> str:
    return str(len(lint.check(one.chart).failures))


def unfitting(one: Subject) -> str:
    return str(len(list(references.faults(one.plain))))


FACTS = {
    "objects": lambda one: str(len(one.plain)),
    "`helm lint --strict`, failures": linted,
    "Pod Security `restricted`": restricted,
    "checkov, failures": checkov,
    f"strict schemas, faults on Kubernetes {KUBERNETES[0]} to {KUBERNETES[-1]}": invalid,
    "selectors, ports, names that do not fit": unfitting,
    f"APIs in templates that {KUBERNETES[-1]} lacks": gone,
    "custom resources written for a cluster without them": unconditional,
    "NetworkPolicy": has("NetworkPolicy"),
    "PodDisruptionBudget": has("PodDisruptionBudget"),
    "monitor": has("PodMonitor", "ServiceMonitor"),
    "PrometheusRule": has("PrometheusRule"),
    "autoscaler": has("HorizontalPodAutoscaler", "ScaledObject"),
    "schema of values": values_schema,
    "time to stop": grace,
    "helm tests": helm_tests,
}


def main(charts: list[Path]) -> None:
    subjects = [subject(chart) for chart in charts]
    print("|  | " + " | ".join(chart.resolve().name for chart in charts) + " |")
    print("|---" * (len(charts) + 1) + "|")
    for name, fact in FACTS.items():
        print(f"| {name} | " + " | ".join(fact(one) for one in subjects) + " |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m deploy.checks.scorecard DIR...   (folders of charts)")
    main([Path(argument) for argument in sys.argv[1:]])
