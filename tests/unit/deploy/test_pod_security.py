"""The restricted profile: a good pod passes, and each control rejects a pod that violates only it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deploy.checks import pod_security
from deploy.checks.pods import Pod, pods

Change = Callable[[dict[str, Any]], object]

GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [
        {"name": "pull", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
    "containers": [
        {
            "name": "server",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 8001}],
            "readinessProbe": {"grpc": {"port": 8001}},
        }
    ],
    "volumes": [{"name": "models", "emptyDir": {}}, {"name": "artifact", "image": {"reference": "m:1"}}],
}


def pod(*changes: Change, metadata: dict[str, Any] | None = None) -> Pod:
    spec = copy.deepcopy(GOOD)
    for change in changes:
        change(spec)
    return Pod("Deployment/x", metadata or {}, spec)


def context(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["containers"][0]["securityContext"]
    return found


BROKEN: list[tuple[pod_security.Control, Change]] = [
    (pod_security.host_process, lambda s: context(s).update(windowsOptions={"hostProcess": True})),
    (pod_security.host_process, lambda s: s["securityContext"].update(windowsOptions={"hostProcess": True})),
    (pod_security.host_namespaces, lambda s: s.update(hostNetwork=True)),
    (pod_security.host_namespaces, lambda s: s.update(hostPID=True)),
    (pod_security.host_namespaces, lambda s: s.update(hostIPC=True)),
    (pod_security.privileged, lambda s: context(s).update(privileged=True)),
    (pod_security.capabilities, lambda s: context(s).pop("capabilities")),
    (pod_security.capabilities, lambda s: context(s).update(capabilities={"drop": ["NET_RAW"]})),
    (pod_security.capabilities, lambda s: context(s).update(capabilities={"drop": ["ALL"], "add": ["CHOWN"]})),
    (pod_security.capabilities, lambda s: s["initContainers"][0]["securityContext"].pop("capabilities")),
    (pod_security.volume_types, lambda s: s["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
    (pod_security.volume_types, lambda s: s["volumes"].append({"name": "share", "nfs": {"server": "a"}})),
    (pod_security.volume_types, lambda s: s["volumes"].append({"name": "nothing"})),
    (pod_security.host_ports, lambda s: s["containers"][0]["ports"][0].update(hostPort=80)),
    (pod_security.probe_hosts, lambda s: s["containers"][0].update(livenessProbe={"httpGet": {"host": "a"}})),
    (
        pod_security.probe_hosts,
        lambda s: s["containers"][0].update(lifecycle={"preStop": {"tcpSocket": {"host": "a"}}}),
    ),
    (pod_security.apparmor, lambda s: context(s).update(appArmorProfile={"type": "Unconfined"})),
    (pod_security.selinux, lambda s: s["securityContext"].update(seLinuxOptions={"type": "spc_t"})),
    (pod_security.selinux, lambda s: context(s).update(seLinuxOptions={"user": "system_u"})),
    (pod_security.proc_mount, lambda s: context(s).update(procMount="Unmasked")),
    (pod_security.seccomp, lambda s: s["securityContext"].pop("seccompProfile")),
    (pod_security.seccomp, lambda s: context(s).update(seccompProfile={"type": "Unconfined"})),
    (pod_security.sysctls, lambda s: s["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
    (pod_security.privilege_escalation, lambda s: context(s).pop("allowPrivilegeEscalation")),
    (pod_security.privilege_escalation, lambda s: s.update(ephemeralContainers=[{"name": "e"}])),
    (pod_security.non_root, lambda s: s["securityContext"].pop("runAsNonRoot")),
    (pod_security.non_root, lambda s: context(s).update(runAsNonRoot=False)),
    (pod_security.non_root_user, lambda s: s["securityContext"].update(runAsUser=0)),
    (pod_security.non_root_user, lambda s: context(s).update(runAsUser=0)),
]


def test_a_restricted_pod_has_no_faults() -> None:
    assert pod_security.faults(pod()) == []


@pytest.mark.parametrize(("control", "change"), BROKEN)
def test_a_control_finds_the_pod_that_breaks_it(control: pod_security.Control, change: Change) -> None:
    assert list(control(pod(change)))
    assert set(control(pod(change))) <= set(pod_security.faults(pod(change)))


def test_an_apparmor_annotation_is_checked() -> None:
    name = "container.apparmor.security.beta.kubernetes.io/server"
    assert pod_security.faults(pod(metadata={"annotations": {name: "runtime/default"}})) == []
    assert pod_security.faults(pod(metadata={"annotations": {name: "unconfined"}}))


def test_every_control_has_a_broken_pod() -> None:
    assert {control for control, _ in BROKEN} == set(pod_security.CONTROLS)


def test_a_containers_own_settings_replace_the_pods() -> None:
    def own(spec: dict[str, Any]) -> None:
        spec.pop("securityContext")
        for container in [*spec["initContainers"], *spec["containers"]]:
            container["securityContext"] |= {"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}}

    assert pod_security.faults(pod(own)) == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ["spec", "template", "spec"]),
        ("Job", ["spec", "template", "spec"]),
        ("CronJob", ["spec", "jobTemplate", "spec", "template", "spec"]),
        ("Pod", ["spec"]),
        ("ClusterServingRuntime", ["spec"]),
        ("InferenceService", ["spec", "predictor"]),
    ],
)
def test_the_pod_of_each_kind_of_object_is_found(kind: str, path: list[str]) -> None:
    spec: Any = GOOD
    for name in reversed(path):
        spec = {name: spec}
    assert [one.spec for one in pods([{"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **spec}])] == [GOOD]


@pytest.mark.parametrize(("own", "faults"), [({}, 0), ({"securityContext": {}}, 4)])
def test_a_predictors_model_counts_as_a_container_if_it_overrides_its_runtimes(
    own: dict[str, Any], faults: int
) -> None:
    spec = {"predictor": {"model": {"modelFormat": {"name": "onnx"}, **own}}}
    (one,) = pods([{"apiVersion": "v1", "kind": "InferenceService", "metadata": {"name": "x"}, "spec": spec}])
    assert len(pod_security.faults(one)) == faults
