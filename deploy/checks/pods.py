"""Finds the pods that objects make."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .manifests import Manifest, label

# Where the pod's metadata and spec are in each kind of object that makes pods.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")),
    "ReplicationController": ("spec", "template"),
}
# KServe's objects hold a pod's spec without a template.
BARE_SPECS: dict[str, tuple[str, ...]] = {
    "ServingRuntime": ("spec",),
    "ClusterServingRuntime": ("spec",),
    "InferenceService": ("spec", "predictor"),
}
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True)
class Pod:
    """A pod as an object describes it."""

    owner: str  # `Kind/name` of the object that makes it
    metadata: dict[str, Any]
    spec: dict[str, Any]

    def containers(self) -> list[dict[str, Any]]:
        """Returns its containers, those of initialisation and debugging included.

        KServe puts a predictor's model over its runtime's container, so the model counts if it has a security context.
        """
        listed = [container for name in CONTAINER_LISTS for container in self.spec.get(name) or []]
        model = self.spec.get("model")
        return [*listed, {"name": "model", **model}] if model and "securityContext" in model else listed


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Gives the pod of each object that makes one."""
    for manifest in manifests:
        kind = manifest["kind"]
        if kind in TEMPLATES:
            template = _inside(manifest, TEMPLATES[kind])
            yield Pod(label(manifest), template.get("metadata") or {}, template.get("spec") or {})
        elif kind in BARE_SPECS:
            yield Pod(label(manifest), {}, _inside(manifest, BARE_SPECS[kind]))


def _inside(value: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        value = value.get(name) or {}
    return value
