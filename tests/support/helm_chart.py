"""Renders the chart as `helm install` would, without a cluster."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "pixelserve"
PROGRAMS = Path(sys.prefix) / "deploy" / "bin"
MONITORING, KEDA, GATEWAY = "monitoring.coreos.com/v1", "keda.sh/v1alpha1", "gateway.networking.k8s.io/v1"
Manifest = dict[str, Any]


def program(name: str) -> str:
    """Returns the path of a program of requirements/deploy.txt; skips the test without it."""
    path = PROGRAMS / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: make .venv/stamps/deploy")
    return str(path)


def helm_template(
    values: Mapping[str, Any],
    *,
    apis: Sequence[str] = (),
    kubernetes: str = "1.37",
    files: Sequence[Path] = (),
    flags: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs `helm template` for a release `digits` in the namespace `models`.

    Args:
        values: over those of the chart.
        apis: what the cluster has beside Kubernetes' own.
        kubernetes: its version.
        files: of values, between the two.
        flags: more arguments.
    """
    command = ["template", "digits", str(CHART), "--namespace", "models", "--values", "-", *flags]
    command += ["--kube-version", kubernetes, *(part for api in apis for part in ("--api-versions", api))]
    return _helm([*command, *(part for file in files for part in ("--values", str(file)))], values)


def notes(values: Mapping[str, Any]) -> str:
    """Returns what Helm prints after an install."""
    command = ["install", "digits", str(CHART), "--namespace", "models", "--values", "-", "--dry-run=client"]
    done = _helm(command, values)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def _helm(arguments: Sequence[str], values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [program("helm"), *arguments]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def render(values: Mapping[str, Any] | None = None, **options: Any) -> list[Manifest]:
    """Returns what `helm template` writes; takes the options of `helm_template`."""
    done = helm_template(values or {}, **options)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def refusal(values: Mapping[str, Any], **options: Any) -> str:
    """Returns Helm's message for values that the chart has to refuse."""
    done = helm_template(values, **options)
    assert done.returncode != 0, "accepted"
    return done.stderr


def pick(manifests: Sequence[Manifest], kind: str, name: str = "digits-pixelserve") -> Manifest:
    """Returns the one object of a kind and a name."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, [(each["kind"], each["metadata"]["name"]) for each in manifests]
    return found[0]


def pod(manifests: Sequence[Manifest], name: str = "digits-pixelserve") -> Manifest:
    """Returns the spec of the pods of a Deployment."""
    spec: Manifest = pick(manifests, "Deployment", name)["spec"]["template"]["spec"]
    return spec


def server(manifests: Sequence[Manifest], name: str = "digits-pixelserve") -> Manifest:
    """Returns the container of the server."""
    return next(each for each in pod(manifests, name)["containers"] if each["name"] == "server")


def environment(manifests: Sequence[Manifest], name: str = "digits-pixelserve") -> dict[str, str]:
    """Returns the server's environment; what the downward API fills in is its field's path."""
    return dict(_environment(server(manifests, name)))


def _environment(container: Manifest) -> Iterator[tuple[str, str]]:
    for each in container["env"]:
        yield each["name"], each.get("value") or each["valueFrom"]["fieldRef"]["fieldPath"]


def training_job(values: Mapping[str, Any]) -> Manifest:
    """Returns the Job that trains; tests of Helm are Jobs as well."""
    (found,) = [each for each in render(values) if each["kind"] == "Job" and component(each) == "training"]
    return found


def component(manifest: Manifest) -> str:
    """Returns which part of the release an object belongs to."""
    name: str = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
    return name
