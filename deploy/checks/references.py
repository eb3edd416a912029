"""Checks references between objects beyond their schemas: names, labels, selectors, ports and volumes.

A cluster accepts most of these errors, and the object then selects nothing.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from .manifests import Manifest, label
from .pods import Pod, pods

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
PORT_NAME_LENGTH = 15
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def faults(manifests: list[Manifest]) -> Iterator[str]:
    """Yields the errors in the objects of one rendering, one line each."""
    found = list(pods(manifests))
    names = [(one["apiVersion"], label(one)) for one in manifests]
    yield from (f"{name[1]} is defined twice" for name in sorted({one for one in names if names.count(one) > 1}))
    for manifest in manifests:
        lines = chain(_metadata(manifest), _selector(manifest, found), _target(manifest, manifests))
        yield from (f"{label(manifest)}: {line}" for line in lines)
    for pod in found:
        yield from (f"{pod.owner}: {line}" for line in chain(_mounts(pod), _ports(pod), _labels(pod.metadata)))


def _metadata(manifest: Manifest) -> Iterator[str]:
    metadata = manifest.get("metadata") or {}
    allowed = SERVICE_NAME if manifest["kind"] == "Service" else NAME
    if not allowed.fullmatch(str(metadata.get("name", ""))):
        yield f"the name {metadata.get('name')} is invalid"
    yield from _labels(metadata)


def _labels(metadata: dict[str, Any]) -> Iterator[str]:
    for name, value in (metadata.get("labels") or {}).items():
        if not LABEL_VALUE.fullmatch(str(value)):
            yield f"label {name} has the value {value}, which is invalid"


def _selector(manifest: Manifest, found: list[Pod]) -> Iterator[str]:
    """Checks that a pod selector finds a pod, with the named ports that the object uses."""
    kind, spec = manifest["kind"], manifest.get("spec") or {}
    if kind in WORKLOADS:
        found = [pod for pod in found if pod.owner == label(manifest)]
    match kind:
        case "Service":
            wanted, ports = spec.get("selector"), [port.get("targetPort") for port in spec.get("ports") or []]
        case "PodMonitor":
            wanted = spec["selector"].get("matchLabels")
            ports = [endpoint.get("port") for endpoint in spec.get("podMetricsEndpoints") or []]
        case "NetworkPolicy":
            wanted, ports = (spec.get("podSelector") or {}).get("matchLabels"), []
        case "PodDisruptionBudget" | "Deployment" | "StatefulSet" | "DaemonSet":
            wanted, ports = (spec.get("selector") or {}).get("matchLabels"), []
        case _:
            return
    if not wanted:
        return
    chosen = [pod for pod in found if wanted.items() <= (pod.metadata.get("labels") or {}).items()]
    if not chosen:
        yield f"the selector {wanted} finds no pod"
    for pod in chosen:
        names = {port.get("name") for container in pod.containers() for port in container.get("ports") or []}
        yield from (
            f"selects {pod.owner}, which has no port {port}"
            for port in ports
            if isinstance(port, str) and port not in names
        )


def _target(manifest: Manifest, manifests: list[Manifest]) -> Iterator[str]:
    """Checks that an autoscaler's target exists, and that a ServiceMonitor finds a Service."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
        aim = spec["scaleTargetRef"]
        if f"{aim.get('kind', 'Deployment')}/{aim['name']}" not in map(label, manifests):
            yield f"scales {aim['name']}, which does not exist"
    if manifest["kind"] == "ServiceMonitor":
        wanted = (spec["selector"].get("matchLabels") or {}).items()
        services = [one for one in manifests if one["kind"] == "Service"]
        chosen = [one for one in services if wanted <= (one["metadata"].get("labels") or {}).items()]
        names = {port.get("name") for one in chosen for port in one["spec"].get("ports") or []}
        yield from (
            f"no Service has the port {one.get('port')}" for one in spec["endpoints"] if one.get("port") not in names
        )


def _mounts(pod: Pod) -> Iterator[str]:
    names = [volume["name"] for volume in pod.spec.get("volumes") or []]
    yield from (f"two volumes are called {name}" for name in sorted({one for one in names if names.count(one) > 1}))
    used = set()
    for container in pod.containers():
        mounts = container.get("volumeMounts") or []
        used |= {mount["name"] for mount in mounts}
        paths = [mount["mountPath"] for mount in mounts]
        yield from (
            f"two volumes are mounted at {path}" for path in sorted({one for one in paths if paths.count(one) > 1})
        )
    yield from (f"the volume {name} does not exist" for name in sorted(used - set(names)))
    yield from (f"the volume {name} is not mounted" for name in sorted(set(names) - used))


def _ports(pod: Pod) -> Iterator[str]:
    containers = [one.get("name") for one in pod.containers()]
    yield from (
        f"two containers are called {name}" for name in {one for one in containers if containers.count(one) > 1}
    )
    for container in pod.containers():
        names = {port["name"] for port in container.get("ports") or [] if "name" in port}
        yield from (f"the port name {name} is too long" for name in names if len(name) > PORT_NAME_LENGTH)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = [action.get("port") for action in (container.get(probe) or {}).values() if isinstance(action, dict)]
            yield from (
                f"{probe} asks the port {one}, which does not exist"
                for one in asked
                if isinstance(one, str) and one not in names
            )
