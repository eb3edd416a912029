"""Gate: KServe's objects are valid for its API, and their pods for Kubernetes and the restricted profile."""

import json
from pathlib import Path

from . import kubernetes_schemas, pod_security, tools
from .chart import KUBERNETES
from .gate import CheckError, Result
from .manifests import Manifest, ManifestError, label, load
from .pods import pods

GROUP = "serving.kserve.io/"
PYTHON = tools.VENV / "kserve" / "bin" / "python"
SCRIPT = Path(__file__).with_name("kserve_models.py")


def check(folder: Path) -> Result:
    """Checks each YAML file of a folder."""
    manifests, failures = _load(folder)
    if not manifests and not failures:
        failures = [f"{folder} has no KServe objects"]
    ours = [manifest for manifest in manifests if manifest["apiVersion"].startswith(GROUP)]
    for manifest, errors in zip(ours, _api_errors(ours), strict=True):
        failures += [f"{label(manifest)}: {error}" for error in errors]
    for manifest in manifests:
        if manifest not in ours:
            for release in KUBERNETES:
                failures += [
                    f"{label(manifest)}: {error} [{release}]" for error in kubernetes_schemas.errors(manifest, release)
                ]
    for pod in pods(manifests):
        failures += [f"{pod.owner}: {fault}" for fault in [*pod_security.faults(pod), *_container_errors(pod.spec)]]
    return Result(f"{len(manifests)} objects of {folder.name}/", tuple(dict.fromkeys(failures)))


def _load(folder: Path) -> tuple[list[Manifest], list[str]]:
    manifests: list[Manifest] = []
    failures: list[str] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            manifests += [manifest for manifest in load(file.read_text()) if manifest["kind"] != "Kustomization"]
        except ManifestError as error:
            failures.append(f"{file.name}: {error}")
    return manifests, failures


def _api_errors(manifests: list[Manifest]) -> list[list[str]]:
    if not PYTHON.exists():
        raise CheckError(f"{PYTHON} is missing; run: make deploy-check")
    done = tools.run(str(PYTHON), SCRIPT, stdin=json.dumps(manifests))
    if done.returncode:
        raise CheckError(f"{SCRIPT.name} failed: {done.stderr.strip()[-500:]}")
    found: list[list[str]] = json.loads(done.stdout)
    return found


def _container_errors(spec: Manifest) -> list[str]:
    """Validates containers and volumes by Kubernetes' own schemas, which are stricter than KServe's classes."""
    named = {name: spec[name] for name in ("containers", "initContainers", "volumes") if name in spec}
    if "containers" not in named:
        return []
    pod: Manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": named}
    return [error for release in KUBERNETES for error in kubernetes_schemas.errors(pod, release)]
