"""Routing to the servers: Services, a route, a canary, and Envoy, whose configuration Envoy itself checks."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import GATEWAY, pick, pod, program, refusal, render

ROUTE = {"route": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]}}
CANARY = {"canary": {"enabled": True, "weight": 20, "image": {"tag": "next"}}}
ENVOY = {"envoy": {"enabled": True}}


def labels(manifests: list[dict[str, Any]], name: str) -> dict[str, str]:
    found: dict[str, str] = pick(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    return found


def selects(manifests: list[dict[str, Any]], service: str, deployment: str) -> bool:
    selector = pick(manifests, "Service", service)["spec"]["selector"]
    return bool(selector.items() <= labels(manifests, deployment).items())


def envoy_configuration(values: dict[str, Any]) -> dict[str, Any]:
    config = pick(render(values), "ConfigMap", "digits-pixelserve-envoy")["data"]["envoy.yaml"]
    found: dict[str, Any] = yaml.safe_load(config)
    return found


def test_the_headless_service_has_the_pods_addresses() -> None:
    manifests = render()
    assert pick(manifests, "Service", "digits-pixelserve-headless")["spec"]["clusterIP"] == "None"
    assert selects(manifests, "digits-pixelserve-headless", "digits-pixelserve")


def test_gateways_learn_that_grpc_is_http2_without_tls() -> None:
    ports = {each["name"]: each for each in pick(render(), "Service")["spec"]["ports"]}
    assert ports["grpc"] == {"name": "grpc", "port": 8001, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}


def test_each_track_has_a_service_of_its_own() -> None:
    manifests = render({**CANARY, **ENVOY})
    tracks = ("digits-pixelserve", "digits-pixelserve-canary")
    assert [[selects(manifests, service, track) for track in tracks] for service in tracks] == [
        [True, False],
        [False, True],
    ]
    assert not any(selects(manifests, service, "digits-pixelserve-envoy") for service in tracks)


def test_a_canary_differs_by_its_image() -> None:
    manifests = render({**CANARY, **ENVOY, "image": {"digest": "sha256:" + "0" * 64}})
    images = [
        pod(manifests, name)["containers"][0]["image"] for name in ("digits-pixelserve", "digits-pixelserve-canary")
    ]
    assert images == ["pixelserve-server@sha256:" + "0" * 64, "pixelserve-server:next"]


@pytest.mark.parametrize("weight", [0, 20, 100])
def test_a_route_splits_the_calls_by_weight(weight: int) -> None:
    values = {**ROUTE, "canary": {"enabled": True, "weight": weight}}
    (rule,) = pick(render(values, apis=[GATEWAY]), "GRPCRoute")["spec"]["rules"]
    assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
        ("digits-pixelserve", 100 - weight),
        ("digits-pixelserve-canary", weight),
    ]


def test_a_route_without_a_canary_has_one_backend() -> None:
    spec = pick(
        render({"route": {**ROUTE["route"], "hostnames": ["digits.example.org"]}}, apis=[GATEWAY]), "GRPCRoute"
    )["spec"]
    assert spec["rules"] == [{"backendRefs": [{"name": "digits-pixelserve", "port": 8001}]}]
    assert (spec["hostnames"], spec["parentRefs"]) == (["digits.example.org"], ROUTE["route"]["parentRefs"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (CANARY, "needs route.enabled or envoy.enabled"),
        ({"route": {"enabled": True}}, "needs route.parentRefs"),
        (ROUTE, "needs the Gateway API"),
        ({"canary": {"weight": 101}}, "/canary/weight"),
        (
            {**ENVOY, "tls": {"existingSecret": "certificate", "clientCaSecret": "ca"}},
            "clients' certificates end at Envoy",
        ),
        ({"envoy": {"resources": {"limits": {"cpu": "500m"}}}}, "/envoy/resources/limits/cpu"),
    ],
)
def test_routes_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    assert message in refusal(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [ENVOY, {**ENVOY, **CANARY}, {**ENVOY, "server": {"maxConnectionAgeSeconds": 0}}],
    ids=["one", "canary", "no age"],
)
def test_envoy_accepts_its_configuration(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(envoy_configuration(values)))
    command = [program("envoy"), "--mode", "validate", "--config-path", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_envoy_watches_each_pod_and_splits_as_a_route_does() -> None:
    static = envoy_configuration({**ENVOY, **CANARY})["static_resources"]
    clusters = {each["name"]: each for each in static["clusters"] if each["name"] != "admin"}
    for track, host in (("stable", "digits-pixelserve-headless"), ("canary", "digits-pixelserve-canary-headless")):
        (endpoint,) = clusters[track]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        address = endpoint["endpoint"]["address"]["socket_address"]
        assert address == {"address": f"{host}.models.svc.cluster.local", "port_value": 8001}
        assert (clusters[track]["type"], clusters[track]["lb_policy"]) == ("STRICT_DNS", "LEAST_REQUEST")
    manager = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert route["weighted_clusters"]["clusters"] == [
        {"name": "stable", "weight": 80},
        {"name": "canary", "weight": 20},
    ]
    assert manager["common_http_protocol_options"] == {"max_connection_duration": "600s"}


def test_envoys_admin_port_stays_on_loopback() -> None:
    configuration = envoy_configuration(ENVOY)
    assert configuration["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    _, metrics = configuration["static_resources"]["listeners"]
    hosts = metrics["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    assert [each["match"] for each in hosts[0]["routes"]] == [{"path": "/stats/prometheus"}, {"path": "/ready"}]


def test_a_changed_configuration_restarts_envoy() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = pick(render(values), "Deployment", "digits-pixelserve-envoy")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum(ENVOY) == checksum(ENVOY)
    assert checksum(ENVOY) != checksum({**ENVOY, **CANARY})


def test_envoy_may_reach_the_servers_and_clients_may_reach_envoy() -> None:
    manifests = render({**ENVOY, "networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}})
    to_envoy = pick(manifests, "NetworkPolicy", "digits-pixelserve-envoy")["spec"]
    assert {"podSelector": {"matchLabels": {"app": "shop"}}} in to_envoy["ingress"][0]["from"]
    envoy, servers = labels(manifests, "digits-pixelserve-envoy"), labels(manifests, "digits-pixelserve")
    from_envoy = pick(manifests, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert any(each["podSelector"].get("matchLabels", {"no": "one"}).items() <= envoy.items() for each in from_envoy)
    assert to_envoy["egress"][1]["to"][0]["podSelector"]["matchLabels"].items() <= servers.items()
