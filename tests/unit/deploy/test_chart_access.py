"""Network access to and from a server of the chart."""

import hashlib
from typing import Any

import pytest
from fake_cluster import fake_cluster
from helm_chart import MONITORING, environment, notes, pick, pod, refusal, render, server

from pixelserve import tokens
from pixelserve_server.access.exposure import check_exposure
from pixelserve_server.settings import Settings

OWN_TOKENS = {"existingSecret": "own-tokens", "existingClientSecret": "own-clients"}


def secrets(manifests: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the tokens of clients, and the server's file."""
    clients = pick(manifests, "Secret", "digits-pixelserve-client-tokens")["stringData"]
    return clients, pick(manifests, "Secret", "digits-pixelserve-tokens")["stringData"]


def test_the_server_gets_the_digests_of_the_tokens_and_not_the_tokens() -> None:
    clients, servers = secrets(render())
    accepted = {token.name: token for token in tokens.parse_tokens(servers["tokens"])}
    for key, name in (("infer", "clients"), ("observe", "prometheus")):
        assert accepted[name].digest == hashlib.sha256(clients[key].encode()).hexdigest()
        assert accepted[name].scopes == {tokens.Scope(key)}
        assert clients[key] not in servers["tokens"]
    mounted = [each["secret"]["secretName"] for each in pod(render())["volumes"] if "secret" in each]
    assert mounted == ["digits-pixelserve-tokens"]


def test_tokens_are_as_hard_to_guess_as_our_own_and_differ() -> None:
    (first, _), (second, _) = secrets(render()), secrets(render())
    found = {first["infer"], first["observe"], second["infer"], second["observe"]}
    assert len(found) == 4
    assert all(each.startswith(tokens.PREFIX) and len(each) == len(tokens.new_token()) for each in found)


@pytest.mark.slow
def test_an_upgrade_keeps_the_tokens_that_the_cluster_has() -> None:
    kept = {"infer": "ps_" + "i" * 43, "observe": "ps_" + "o" * 43}
    with fake_cluster("digits", "models", "digits-pixelserve-client-tokens", kept) as flags:
        clients, servers = secrets(render(flags=flags))
    assert clients == kept
    digests = [token.digest for token in tokens.parse_tokens(servers["tokens"])]
    assert digests == [hashlib.sha256(token.encode()).hexdigest() for token in kept.values()]


def test_tokens_of_ones_own_leave_no_random_ones() -> None:
    manifests = render({"tokens": OWN_TOKENS}, apis=[MONITORING])
    assert [each["metadata"]["name"] for each in manifests if each["kind"] == "Secret"] == []
    assert any(each.get("secret", {}).get("secretName") == "own-tokens" for each in pod(manifests)["volumes"])
    endpoint = pick(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert endpoint["authorization"]["credentials"] == {"name": "own-clients", "key": "observe"}


@pytest.mark.parametrize("given", ["existingSecret", "existingClientSecret"])
def test_one_secret_of_tokens_without_the_other_is_refused(given: str) -> None:
    assert "belong together" in refusal({"tokens": {given: "own"}})


def settings_of(manifests: list[dict[str, Any]]) -> Settings:
    """Returns the server's settings; refuses unknown variables."""
    prefix = "PIXELSERVE_"
    given = {
        name.removeprefix(prefix).lower(): value for name, value in environment(manifests).items() if prefix in name
    }
    return Settings.model_validate(given)


@pytest.mark.parametrize("values", [{}, {"tls": {"existingSecret": "certificate"}}], ids=["without TLS", "with TLS"])
def test_the_server_starts_and_is_insecure_only_without_tls(values: dict[str, Any]) -> None:
    warning = check_exposure(settings_of(render(values)))
    assert (warning is None) == bool(values)


def test_certificates_are_mounted_whole_so_that_renewed_ones_are_seen() -> None:
    manifests = render({"tls": {"existingSecret": "certificate", "clientCaSecret": "ca"}})
    mounts = {each["name"]: each for each in server(manifests)["volumeMounts"]}
    for name in ("tls", "client-ca", "tokens"):
        assert "subPath" not in mounts[name]
        assert mounts[name]["readOnly"] is True
    assert environment(manifests)["PIXELSERVE_TLS_CLIENT_CA"] == "/etc/pixelserve/client-ca/ca.crt"


def test_a_ca_for_clients_needs_a_certificate() -> None:
    assert "tls.clientCaSecret needs tls.existingSecret" in refusal({"tls": {"clientCaSecret": "ca"}})


def test_the_notes_say_that_nothing_is_encrypted_and_who_may_connect() -> None:
    assert "NO TLS" in notes({})
    assert "Only the peers in networkPolicy.clients may connect" in notes({})
    assert "every pod of the cluster can connect" in notes({"networkPolicy": {"enabled": False}})
    assert "NO TLS" not in notes({"tls": {"existingSecret": "certificate"}})


def test_the_notes_have_the_command_that_reaches_the_server() -> None:
    assert "    pixelserve classify PICTURE --model mnist-cnn\n" in notes({})
    encrypted = notes({"tls": {"existingSecret": "certificate", "clientCaSecret": "ca"}})
    options = (
        "--tls-ca ca.crt --tls-server-name digits-pixelserve.models.svc --tls-cert client.crt --tls-key client.key"
    )
    assert f"--model mnist-cnn {options}\n" in encrypted
    assert "--model MODEL\n" in notes({"models": {"source": "pvc", "pvc": {"claimName": "a"}}})


def rules(values: dict[str, Any], direction: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pick(render(values), "NetworkPolicy")["spec"][direction]
    return found


def test_calls_come_from_the_namespace_and_scrapes_from_monitoring() -> None:
    calls, scrapes = rules({}, "ingress")
    assert {"podSelector": {}} in calls["from"]
    assert [each["port"] for each in calls["ports"]] == ["grpc", "http"]
    assert scrapes["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert [each["port"] for each in scrapes["ports"]] == ["metrics"]


def test_without_clients_only_envoy_and_helm_tests_may_call() -> None:
    calls, _ = rules({"networkPolicy": {"clients": []}}, "ingress")
    (own,) = calls["from"]
    assert own["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "digits"


@pytest.mark.parametrize("peers", ["dns", "modelSource"])
def test_peers_that_kubernetes_would_take_for_everyone_are_refused(peers: str) -> None:
    assert f"/networkPolicy/{peers}" in refusal({"networkPolicy": {peers: []}})


def test_servers_connect_to_nothing() -> None:
    policy = pick(render(), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []


def test_a_source_of_models_opens_dns_and_its_ports_only() -> None:
    source = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    values = {
        "models": {"source": "pull", "pull": {"urls": ["s3://bucket/a"]}},
        "networkPolicy": {"modelSource": [source], "modelSourcePorts": [9000]},
    }
    dns, models = rules(values, "egress")
    assert [each["port"] for each in dns["ports"]] == [53, 53]
    assert models == {"to": [source], "ports": [{"port": 9000, "protocol": "TCP"}]}


def test_an_image_or_a_claim_opens_nothing() -> None:
    assert rules({"models": {"source": "pvc", "pvc": {"claimName": "a"}}}, "egress") == []
    assert rules({"models": {"source": "image", "image": {"repository": "a", "tag": "1"}}}, "egress") == []


def test_a_collector_of_traces_can_be_let_out() -> None:
    collector = {"to": [{"podSelector": {}}], "ports": [{"port": 4318, "protocol": "TCP"}]}
    values = {
        "server": {"settings": {"trace_endpoint": "http://collector:4318"}},
        "networkPolicy": {"extraEgress": [collector]},
    }
    dns, traces = rules(values, "egress")
    assert [each["port"] for each in dns["ports"]] == [53, 53]
    assert traces == collector


def test_the_network_policy_can_be_left_to_something_else() -> None:
    manifests = render({"networkPolicy": {"enabled": False}, "envoy": {"enabled": True}})
    assert "NetworkPolicy" not in [each["kind"] for each in manifests]


def test_the_service_account_has_no_token() -> None:
    assert pick(render(), "ServiceAccount")["automountServiceAccountToken"] is False
    own = render({"serviceAccount": {"name": "own"}})
    assert pod(own)["serviceAccountName"] == "own"
    assert "ServiceAccount" not in [each["kind"] for each in own]
