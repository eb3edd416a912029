"""The chart's objects for Prometheus and Grafana."""

import json
from typing import Any

import pytest
import yaml
from helm_chart import MONITORING, ROOT, pick, render, server

MONITORS = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}


def kinds(manifests: list[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in manifests}


def test_without_the_operators_resources_nothing_of_it_is_written() -> None:
    manifests = render({"envoy": {"enabled": True}})
    assert not kinds(manifests) & MONITORS
    assert not any(each["metadata"]["name"].endswith("dashboard") for each in manifests)


def test_with_them_pods_are_scraped_with_the_token_that_may_observe() -> None:
    manifests = render(apis=[MONITORING])
    monitor = pick(manifests, "PodMonitor")["spec"]
    labels = pick(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in server(manifests)["ports"]]
    assert endpoint["authorization"]["credentials"] == {"name": "digits-pixelserve-client-tokens", "key": "observe"}
    assert endpoint["interval"] == "15s"


def test_a_service_monitor_scrapes_each_pod_once() -> None:
    manifests = render({"metrics": {"monitor": "ServiceMonitor"}}, apis=[MONITORING])
    spec = pick(manifests, "ServiceMonitor")["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    chosen = [each for each in manifests if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in chosen] == ["digits-pixelserve-headless"]
    assert spec["endpoints"][0]["port"] in [port["name"] for port in chosen[0]["spec"]["ports"]]
    assert "PodMonitor" not in kinds(manifests)


def test_the_alerts_find_the_job_whatever_the_release_is_called() -> None:
    (endpoint,) = pick(render({"nameOverride": "x"}, apis=[MONITORING]), "PodMonitor", "digits-x")["spec"][
        "podMetricsEndpoints"
    ]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "pixelserve"}]
    assert 'up{job="pixelserve"}' in (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()


def test_the_rules_are_those_of_deploy_prometheus() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    assert pick(render(apis=[MONITORING]), "PrometheusRule")["spec"] == rules


def test_the_dashboard_is_that_of_deploy_grafana() -> None:
    dashboard = pick(render(apis=[MONITORING]), "ConfigMap", "digits-pixelserve-dashboard")
    assert json.loads(dashboard["data"]["pixelserve.json"]) == json.loads(
        (ROOT / "deploy" / "grafana" / "dashboard.json").read_text()
    )
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize(
    ("metrics", "missing"),
    [({"monitor": "none"}, "PodMonitor"), ({"rules": False}, "PrometheusRule"), ({"dashboard": False}, "ConfigMap")],
)
def test_each_of_them_can_be_left_out(metrics: dict[str, Any], missing: str) -> None:
    assert missing in kinds(render(apis=[MONITORING]))
    assert missing not in kinds(render({"metrics": metrics}, apis=[MONITORING]))


def test_labels_reach_what_prometheus_selects() -> None:
    manifests = render({"metrics": {"labels": {"release": "prometheus"}}}, apis=[MONITORING])
    for kind in ("PodMonitor", "PrometheusRule"):
        assert pick(manifests, kind)["metadata"]["labels"]["release"] == "prometheus"


def test_envoys_own_metrics_are_scraped_too() -> None:
    manifests = render({"envoy": {"enabled": True}}, apis=[MONITORING])
    (endpoint,) = pick(manifests, "PodMonitor", "digits-pixelserve-envoy")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/stats/prometheus")
