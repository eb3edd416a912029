"""Checks KServe's objects against its API, and their pods against Kubernetes and the restricted profile."""

from pathlib import Path

from . import custom_resources, kubernetes_schemas, pod_security
from .chart import KUBERNETES
from .check import Result
from .manifests import Manifest, ManifestError, label, load
from .pods import pods

KIND = "InferenceService"


def check(folder: Path) -> Result:
    """Checks each YAML file in a folder."""
    manifests, failures = _load(folder)
    if not manifests and not failures:
        failures = [f"{folder} has no KServe objects"]
    custom = [manifest for manifest in manifests if not kubernetes_schemas.covers(manifest["apiVersion"])]
    for manifest, errors in zip(custom, custom_resources.errors(custom), strict=True):
        failures += [f"{label(manifest)}: {error}" for error in errors]
    for manifest in manifests:
        if manifest not in custom:
            failures += [f"{label(manifest)}: {error}" for error in _kubernetes_errors(manifest)]
    failures += _unknown_runtimes(manifests)
    for pod in pods(manifests):
        failures += [f"{pod.owner}: {fault}" for fault in [*pod_security.faults(pod), *_container_errors(pod.spec)]]
    return Result(f"{len(manifests)} objects of {folder.name}/", tuple(dict.fromkeys(failures)))


def _unknown_runtimes(manifests: list[Manifest]) -> list[str]:
    """Returns the services whose runtime, which defines their container, is not in the folder and thus unchecked."""
    known = {one["metadata"]["name"] for one in manifests if one["kind"].endswith("ServingRuntime")}
    models = [(label(one), one["spec"]["predictor"].get("model") or {}) for one in manifests if one["kind"] == KIND]
    return [
        f"{name}: no runtime {model.get('runtime')} in the folder"
        for name, model in models
        if model.get("runtime") not in known
    ]


def _load(folder: Path) -> tuple[list[Manifest], list[str]]:
    manifests: list[Manifest] = []
    failures: list[str] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            manifests += [manifest for manifest in load(file.read_text()) if manifest["kind"] != "Kustomization"]
        except ManifestError as error:
            failures.append(f"{file.name}: {error}")
    return manifests, failures


def _container_errors(spec: Manifest) -> list[str]:
    """Validates containers and volumes against Kubernetes' schemas, which are stricter than KServe's classes."""
    named = {name: spec[name] for name in ("containers", "initContainers", "volumes") if name in spec}
    if "containers" not in named:
        return []
    pod: Manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": named}
    return _kubernetes_errors(pod)


def _kubernetes_errors(manifest: Manifest) -> list[str]:
    return [f"{error} [{release}]" for release in KUBERNETES for error in kubernetes_schemas.errors(manifest, release)]
