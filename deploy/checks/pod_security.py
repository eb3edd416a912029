"""The restricted profile of the Pod Security Standards, which a namespace may enforce.

The controls are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/, baseline ones
included; each is a function below. Pods for Windows have other rules and fail here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .pods import Pod

# `image` is not in the standard's list, but Kubernetes has allowed it since 1.33 (kubernetes/kubernetes#130394).
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"
}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}
APPARMOR = SECCOMP
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
Control = Callable[[Pod], Iterator[str]]
Context = tuple[str, dict[str, Any]]  # the owner of the security context, and the context


def faults(pod: Pod) -> list[str]:
    """Returns a pod's violations of the profile, one line each."""
    return [fault for control in CONTROLS for fault in control(pod)]


def contexts(pod: Pod) -> Iterator[Context]:
    """Yields the security contexts: the pod's, then each container's."""
    yield "pod", pod.spec.get("securityContext") or {}
    yield from of_containers(pod)


def of_containers(pod: Pod) -> Iterator[Context]:
    """Yields the security context of each container."""
    for container in pod.containers():
        yield f"container {container.get('name', '?')}", container.get("securityContext") or {}


def host_process(pod: Pod) -> Iterator[str]:
    for whose, context in contexts(pod):
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            yield f"{whose} is a HostProcess container"


def host_namespaces(pod: Pod) -> Iterator[str]:
    yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(name))


def privileged(pod: Pod) -> Iterator[str]:
    yield from (f"{whose} is privileged" for whose, context in of_containers(pod) if context.get("privileged"))


def capabilities(pod: Pod) -> Iterator[str]:
    for whose, context in of_containers(pod):
        asked = context.get("capabilities") or {}
        if "ALL" not in (asked.get("drop") or []):
            yield f"{whose} does not drop ALL capabilities"
        if added := set(asked.get("add") or []) - {"NET_BIND_SERVICE"}:
            yield f"{whose} adds capabilities: {', '.join(sorted(added))}"


def volume_types(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes") or []:
        kinds = volume.keys() - {"name"}
        if not kinds or kinds - VOLUMES:
            yield f"volume {volume.get('name', '?')} has the type {', '.join(sorted(kinds)) or 'none'}"


def host_ports(pod: Pod) -> Iterator[str]:
    for container in pod.containers():
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                yield f"container {container.get('name', '?')} uses the host's port {port['hostPort']}"


def probe_hosts(pod: Pod) -> Iterator[str]:
    """Since 1.34, probes and lifecycle hooks must not name a host, which would redirect the kubelet."""
    for container in pod.containers():
        handlers = [container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += (container.get("lifecycle") or {}).values()
        for handler in handlers:
            actions = [(handler or {}).get(name) or {} for name in ("httpGet", "tcpSocket")]
            if hosts := [action["host"] for action in actions if action.get("host")]:
                yield f"container {container.get('name', '?')} has a probe or hook to the host {hosts[0]}"


def apparmor(pod: Pod) -> Iterator[str]:
    for whose, context in contexts(pod):
        profile = context.get("appArmorProfile")
        if profile is not None and profile.get("type") not in APPARMOR:
            yield f"{whose} has the AppArmor profile {profile.get('type')}"
    for name, value in (pod.metadata.get("annotations") or {}).items():
        if name.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            yield f"annotation {name} is {value}"


def selinux(pod: Pod) -> Iterator[str]:
    for whose, context in contexts(pod):
        asked = context.get("seLinuxOptions") or {}
        if asked.get("type") not in SELINUX_TYPES or asked.get("user") or asked.get("role"):
            yield f"{whose} sets seLinuxOptions"


def proc_mount(pod: Pod) -> Iterator[str]:
    for whose, context in of_containers(pod):
        if context.get("procMount") not in (None, "Default"):
            yield f"{whose} sets procMount {context['procMount']}"


def seccomp(pod: Pod) -> Iterator[str]:
    default = (pod.spec.get("securityContext") or {}).get("seccompProfile")
    if default is not None and default.get("type") not in SECCOMP:
        yield f"pod has the seccomp profile {default.get('type')}"
    for whose, context in of_containers(pod):
        profile = context.get("seccompProfile") or default or {}
        if profile.get("type") not in SECCOMP:
            yield f"{whose} has the seccomp profile {profile.get('type', 'none')}"


def sysctls(pod: Pod) -> Iterator[str]:
    listed: Iterable[dict[str, Any]] = (pod.spec.get("securityContext") or {}).get("sysctls") or []
    yield from (f"sysctl {one.get('name')} is not a safe one" for one in listed if one.get("name") not in SYSCTLS)


def privilege_escalation(pod: Pod) -> Iterator[str]:
    for whose, context in of_containers(pod):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{whose} does not set allowPrivilegeEscalation: false"


def non_root(pod: Pod) -> Iterator[str]:
    default = (pod.spec.get("securityContext") or {}).get("runAsNonRoot")
    for whose, context in of_containers(pod):
        if context.get("runAsNonRoot", default) is not True:
            yield f"{whose} does not set runAsNonRoot: true"


def non_root_user(pod: Pod) -> Iterator[str]:
    yield from (f"{whose} runs as user 0" for whose, context in contexts(pod) if context.get("runAsUser") == 0)


CONTROLS: tuple[Control, ...] = (
    host_process,
    host_namespaces,
    privileged,
    capabilities,
    volume_types,
    host_ports,
    probe_hosts,
    apparmor,
    selinux,
    proc_mount,
    seccomp,
    sysctls,
    privilege_escalation,
    non_root,
    non_root_user,
)
