"""Finds the pods that objects create."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .manifests import Manifest, label

# The location of the pod's metadata and spec in each kind of object that creates pods.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")),
    "ReplicationController": ("spec", "template"),
}
# KServe's objects contain a pod's spec without a template.
BARE_SPECS: dict[str, tuple[str, ...]] = {
    "ServingRuntime": ("spec",),
    "ClusterServingRuntime": ("spec",),
    "InferenceService": ("spec", "predictor"),
}
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True)
class Pod:
    """A pod described by an object."""

    owner: str  # `Kind/name` of its object
    metadata: dict[str, Any]
    spec: dict[str, Any]

    def containers(self) -> list[dict[str, Any]]:
        """Returns its containers, including init and ephemeral containers.

        KServe merges a predictor's model into its runtime's container, so a model with a security context counts.
        """
        listed = [container for name in CONTAINER_LISTS for container in self.spec.get(name) or []]
        model = self.spec.get("model")
        return [*listed, {"name": "model", **model}] if model and "securityContext" in model else listed


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Yields the pod of each object that creates one."""
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
