"""The chart's pods."""

from typing import Any

import pytest
from helm_chart import environment, pick, pod, refusal, render, server

SERVER_ENVIRONMENT = {"LANG": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1", "PIXELSERVE_INSTANCE": "metadata.name"}
EVERYTHING: dict[str, Any] = {
    "gpu": {"enabled": True},
    "sharedMemory": {"enabled": True},
    "models": {"source": "pull", "pull": {"urls": ["s3://bucket/a", "s3://bucket/b"]}},
    "tls": {"existingSecret": "certificate", "clientCaSecret": "ca"},
}


@pytest.mark.parametrize(
    ("settle_s", "grace_s", "expected_s"), [(10, 30, 42), (0, 5, 7), (2.5, 0.25, 5), (1, 3600, 3603)]
)
def test_the_kubelet_waits_for_settle_and_grace_and_two_seconds(
    settle_s: float, grace_s: float, expected_s: int
) -> None:
    manifests = render({"server": {"settleSeconds": settle_s, "graceSeconds": grace_s}})
    assert pod(manifests)["terminationGracePeriodSeconds"] == expected_s
    assert float(environment(manifests)["PIXELSERVE_DRAIN_SETTLE_S"]) == settle_s
    assert float(environment(manifests)["PIXELSERVE_GRACE_S"]) == grace_s


def test_a_kubelet_that_would_not_wait_is_refused() -> None:
    assert "settleSeconds + graceSeconds + 2 is 42" in refusal({"server": {"terminationGracePeriodSeconds": 41}})
    accepted = render({"server": {"terminationGracePeriodSeconds": 42}})
    assert pod(accepted)["terminationGracePeriodSeconds"] == 42


def test_a_pod_stops_only_after_its_successor_is_ready() -> None:
    spec = pick(render(), "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_pods_of_a_revision_spread_over_zones_and_hosts() -> None:
    spread = pod(render())["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    labels = pick(render(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    for each in spread:
        assert each["labelSelector"]["matchLabels"].items() <= labels.items()
        assert (each["whenUnsatisfiable"], each["matchLabelKeys"]) == ("ScheduleAnyway", ["pod-template-hash"])


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_pods_are_closed(values: dict[str, Any]) -> None:
    spec = pod(render(values))
    assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
    security = spec["securityContext"]
    assert (security["runAsUser"], security["runAsNonRoot"]) == (65532, True)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_server_has_its_name_a_utf8_locale_and_no_telemetry() -> None:
    assert environment(render()).items() >= SERVER_ENVIRONMENT.items()


def test_startup_readiness_and_liveness_ask_different_things() -> None:
    container = server(render())
    assert container["startupProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
    assert container["readinessProbe"]["grpc"] == {"port": 8001}
    assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
    startup_s, liveness_s = (
        probe["periodSeconds"] * probe["failureThreshold"]
        for probe in (container["startupProbe"], container["livenessProbe"])
    )
    assert (startup_s, liveness_s) == (120, 60)


def test_with_tls_readiness_is_asked_over_http() -> None:
    container = server(render({"tls": {"existingSecret": "certificate"}}))
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    assert "grpc" not in container["readinessProbe"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(1_600_000_000, "1600000000"), (0.25, "0.25"), (True, "true"), ("1,8,64", "1,8,64"), (0, "0")],
)
def test_settings_reach_the_server_as_they_are_written(given: object, expected: str) -> None:
    assert (
        environment(render({"server": {"settings": {"batch_buckets": given}}}))["PIXELSERVE_BATCH_BUCKETS"] == expected
    )


@pytest.mark.parametrize("name", ["grace_s", "insecure", "tokens", "nonsense"])
def test_settings_that_do_not_exist_or_that_the_chart_decides_are_refused(name: str) -> None:
    assert name in refusal({"server": {"settings": {name: 1}}})


def test_requests_equal_limits() -> None:
    resources = server(render())["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "2", "memory": "2Gi"}


def test_a_gpu_pod_has_a_gpu_or_does_not_serve() -> None:
    manifests = render(
        {"gpu": {"enabled": True, "count": 2, "nodeSelector": {"gpu": "yes"}, "runtimeClassName": "nvidia"}}
    )
    container, spec = server(manifests), pod(manifests)
    assert container["image"].startswith("pixelserve-server-cuda:")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert environment(manifests).items() >= {"PIXELSERVE_DEVICE": "cuda", "PIXELSERVE_REQUIRE_GPU": "true"}.items()
    assert (spec["nodeSelector"], spec["runtimeClassName"]) == ({"gpu": "yes"}, "nvidia")
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_without_a_gpu_nothing_asks_for_one() -> None:
    manifests = render()
    assert "PIXELSERVE_REQUIRE_GPU" not in environment(manifests)
    assert "tolerations" not in pod(manifests)


def test_shared_memory_is_a_memory_volume() -> None:
    manifests = render({"sharedMemory": {"enabled": True, "sizeLimit": "1Gi"}})
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in server(manifests)["volumeMounts"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in pod(manifests)["volumes"]
    assert environment(manifests)["PIXELSERVE_SYSTEM_SHARED_MEMORY"] == "true"


def test_only_loads_by_clients_get_a_folder_to_write_to() -> None:
    assert "tmp" not in [each["name"] for each in pod(render())["volumes"]]
    explicit = render({"replicas": 1, "server": {"settings": {"model_control_mode": "explicit"}}})
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "2048Mi"}} in pod(explicit)["volumes"]


def test_a_digest_wins_over_the_tag() -> None:
    digest = "sha256:" + "0" * 64
    assert server(render({"image": {"tag": "x", "digest": digest}}))["image"] == f"pixelserve-server@{digest}"
    assert server(render({"image": {"tag": "x"}}))["image"] == "pixelserve-server:x"
    assert "digest" in refusal({"image": {"digest": "0" * 64}})


def test_sidecars_and_placement_are_taken_over() -> None:
    taken = {
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    }
    manifests = render({**taken, "sidecars": [{"name": "client", "image": "client:1"}], "envoy": {"enabled": True}})
    spec = pod(manifests)
    for each in (spec, pod(manifests, "digits-pixelserve-envoy")):
        assert {name: each[name] for name in taken} == taken
    assert [each["name"] for each in spec["containers"]] == ["server", "client"]
