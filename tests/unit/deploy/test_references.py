"""References between objects: a consistent set passes, and each broken reference is reported."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deploy.checks.references import faults

Objects = dict[str, dict[str, Any]]
LABELS = {"app": "digits"}
MATCH = {"selector": {"matchLabels": LABELS}}


def made(kind: str, spec: dict[str, Any], api: str = "v1", name: str = "digits") -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": {"of": "digits"}}, "spec": spec}


def fitting() -> Objects:
    container = {
        "name": "server",
        "ports": [{"name": "grpc", "containerPort": 8001}, {"name": "metrics", "containerPort": 8002}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 2},
        "livenessProbe": {"grpc": {"port": 8001}},
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "models", "emptyDir": {}}]}
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "digits"}}
    return {
        "deployment": made("Deployment", {**MATCH, "template": {"metadata": {"labels": {**LABELS}}, "spec": pod}}),
        "service": made("Service", {"selector": LABELS, "ports": [{"name": "grpc", "port": 1, "targetPort": "grpc"}]}),
        "policy": made("NetworkPolicy", {"podSelector": {"matchLabels": LABELS}}),
        "budget": made("PodDisruptionBudget", {**MATCH}),
        "pod monitor": made("PodMonitor", {**MATCH, "podMetricsEndpoints": [{"port": "metrics"}]}),
        "monitor": made(
            "ServiceMonitor", {"selector": {"matchLabels": {"of": "digits"}}, "endpoints": [{"port": "grpc"}]}
        ),
        "hpa": made("HorizontalPodAutoscaler", target),
        "keda": made("ScaledObject", {"scaleTargetRef": {"name": "digits"}}),
    }


def pod(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = objects["deployment"]["spec"]["template"]["spec"]
    return found


def container(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = pod(objects)["containers"][0]
    return found


def test_objects_that_fit_have_no_faults() -> None:
    assert list(faults(list(fitting().values()))) == []


CHANGES: dict[str, Callable[[Objects], object]] = {
    "Deployment/digits is defined twice": lambda o: o.update(again=copy.deepcopy(o["deployment"])),
    "Service/digits: the selector {'app': 'other'} finds no pod": lambda o: o["service"]["spec"].update(
        selector={"app": "other"}
    ),
    "Service/digits: selects Deployment/digits, which has no port http": lambda o: o["service"]["spec"]["ports"].append(
        {"name": "http", "targetPort": "http"}
    ),
    "NetworkPolicy/digits: the selector {'a': 'b'} finds no pod": lambda o: o["policy"]["spec"].update(
        podSelector={"matchLabels": {"a": "b"}}
    ),
    "PodDisruptionBudget/digits: the selector {'a': 'b'} finds no pod": lambda o: o["budget"]["spec"].update(
        selector={"matchLabels": {"a": "b"}}
    ),
    "PodMonitor/digits: selects Deployment/digits, which has no port metric": lambda o: o["pod monitor"]["spec"].update(
        podMetricsEndpoints=[{"port": "metric"}]
    ),
    "ServiceMonitor/digits: no Service has the port metrics": lambda o: o["monitor"]["spec"].update(
        endpoints=[{"port": "metrics"}]
    ),
    "HorizontalPodAutoscaler/digits: scales other, which does not exist": lambda o: o["hpa"]["spec"].update(
        scaleTargetRef={"kind": "Deployment", "name": "other"}
    ),
    "ScaledObject/digits: scales other, which does not exist": lambda o: o["keda"]["spec"].update(
        scaleTargetRef={"name": "other"}
    ),
    "Deployment/digits: the selector {'app': 'digits', 'a': 'b'} finds no pod": lambda o: o["deployment"][
        "spec"
    ].update(selector={"matchLabels": {**LABELS, "a": "b"}}),
    "Deployment/digits: the volume models does not exist": lambda o: pod(o).pop("volumes"),
    "Deployment/digits: the volume spare is not mounted": lambda o: pod(o)["volumes"].append({"name": "spare"}),
    "Deployment/digits: two volumes are called models": lambda o: pod(o)["volumes"].append({"name": "models"}),
    "Deployment/digits: two volumes are mounted at /models": lambda o: container(o)["volumeMounts"].append(
        {"name": "models", "mountPath": "/models"}
    ),
    "Deployment/digits: two containers are called server": lambda o: pod(o).update(initContainers=[{"name": "server"}]),
    "Deployment/digits: readinessProbe asks the port http, which does not exist": lambda o: container(o).update(
        readinessProbe={"httpGet": {"port": "http"}}
    ),
    "Deployment/digits: the port name sixteen-letters- is too long": lambda o: container(o)["ports"].append(
        {"name": "sixteen-letters-"}
    ),
    "Service/7digits: the name 7digits is invalid": lambda o: o["service"]["metadata"].update(name="7digits"),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_what_does_not_fit_is_named(fault: str) -> None:
    objects = fitting()
    CHANGES[fault](objects)
    assert list(faults(list(objects.values()))) == [fault]


@pytest.mark.parametrize(
    ("value", "valid"), [("", True), ("a.b_c", True), ("x" * 63, True), ("x" * 64, False), ("-a", False)]
)
def test_values_of_labels_are_checked_on_objects_and_pods(value: str, valid: bool) -> None:
    objects = fitting()
    objects["budget"]["metadata"]["labels"]["long"] = value
    objects["deployment"]["spec"]["template"]["metadata"]["labels"]["long"] = value
    assert len(list(faults(list(objects.values())))) == (0 if valid else 2)
