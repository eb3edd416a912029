"""The number of pods, and its metric, computed by Prometheus itself."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, KEDA, pick, refusal, render

ADAPTER = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
# Seconds that requests waited, for each second: two models in one pod, another pod, a canary, and another release.
SERIES = {
    ("digits-pixelserve-5d9c7b8f6d-abcde", "a"): 0.5,
    ("digits-pixelserve-5d9c7b8f6d-abcde", "b"): 1.5,
    ("digits-pixelserve-5d9c7b8f6d-fghij", "a"): 4,
    ("digits-pixelserve-canary-7f8d9c6b5-klmno", "a"): 100,
    ("other-pixelserve-5d9c7b8f6d-pqrst", "a"): 1000,
}
SCALING = {"autoscaling": {"enabled": True}}
FROM_ZERO = {"keda": {"enabled": True, "minReplicas": 0}}


def promtool(query: str, expected: list[dict[str, Any]], folder: Path) -> None:
    """Has Prometheus compute a query over SERIES, four minutes in, scraped every 15 s."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt install prometheus")
    series = [
        {
            "series": f'pixelserve_queue_duration_seconds_sum{{namespace="models",pod="{pod}",model="{model}"}}',
            "values": f"0+{rate * 15}x20",
        }
        for (pod, model), rate in SERIES.items()
    ]
    case = {"expr": query, "eval_time": "4m", "exp_samples": expected}
    tests = {
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": [case]}],
    }
    file = folder / "tests.yml"
    file.write_text(json.dumps(tests))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def adapter_query(group_by: str, matchers: str) -> str:
    query: str = ADAPTER["metricsQuery"]
    for name, text in (
        ("GroupBy", group_by),
        ("Series", ADAPTER["seriesQuery"].partition("{")[0]),
        ("LabelMatchers", matchers),
    ):
        query = query.replace(f"<<.{name}>>", text)
    assert "<<" not in query
    return query


def test_the_autoscaler_reads_the_metric_that_the_adapter_makes() -> None:
    (metric,) = pick(render(SCALING), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == ADAPTER["name"]["as"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "1"}


@pytest.mark.slow
def test_the_metric_is_the_mean_number_of_requests_waiting_in_each_pod(tmp_path: Path) -> None:
    pods = "digits-pixelserve-5d9c7b8f6d-abcde|digits-pixelserve-5d9c7b8f6d-fghij"
    expected = [
        {"labels": '{pod="digits-pixelserve-5d9c7b8f6d-abcde"}', "value": 2},
        {"labels": '{pod="digits-pixelserve-5d9c7b8f6d-fghij"}', "value": 4},
    ]
    promtool(adapter_query("pod", f'namespace="models",pod=~"{pods}"'), expected, tmp_path)


@pytest.mark.slow
def test_keda_sums_the_pods_of_the_release_and_not_the_canarys(tmp_path: Path) -> None:
    scaled = pick(render({"keda": {"enabled": True}}, apis=[KEDA]), "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    promtool(trigger["metadata"]["query"], [{"labels": "{}", "value": 6}], tmp_path)


def test_four_scrapes_fit_into_the_window_of_the_rate() -> None:
    assert "[1m]" in ADAPTER["metricsQuery"]
    assert "metrics/scrapeSeconds" in refusal({"metrics": {"scrapeSeconds": 16}})


@pytest.mark.parametrize("scaler", ["autoscaling", "keda"])
def test_an_upgrade_does_not_reset_what_an_autoscaler_decided(scaler: str) -> None:
    assert "replicas" not in pick(render({scaler: {"enabled": True}}, apis=[KEDA]), "Deployment")["spec"]
    assert pick(render(), "Deployment")["spec"]["replicas"] == 2


def test_keda_starts_the_first_pod_when_envoy_has_requests() -> None:
    spec = pick(render({**FROM_ZERO, "envoy": {"enabled": True}}, apis=[KEDA]), "ScaledObject")["spec"]
    assert spec["minReplicaCount"] == 0
    _, activation = spec["triggers"]
    assert activation["metadata"]["activationThreshold"] == "0"
    assert (
        'envoy_http_downstream_rq_total{namespace="models",pod=~"digits-pixelserve-envoy-.*"'
        in activation["metadata"]["query"]
    )


# With every kind of quotes.
QUERY = """sum(rate(gateway_requests_total{route="digits",zone!='b'}[1m]))"""


def test_a_query_of_ones_own_may_start_the_first_pod() -> None:
    values = {"keda": {**FROM_ZERO["keda"], "activationQuery": QUERY}}
    _, activation = pick(render(values, apis=[KEDA]), "ScaledObject")["spec"]["triggers"]
    assert activation["metadata"]["query"] == QUERY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (FROM_ZERO, "a pod that does not exist has no metrics"),
        ({**SCALING, "keda": {"enabled": True}}, "enable one"),
        ({"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}}, "more than maxReplicas"),
        ({"keda": {"enabled": True, "minReplicas": 11}}, "more than maxReplicas"),
        ({"server": {"settings": {"model_control_mode": "explicit"}}}, "a load reaches one of them"),
        (
            {"replicas": 1, **SCALING, "server": {"settings": {"model_control_mode": "explicit"}}},
            "a load reaches one of them",
        ),
        ({"autoscaling": {"minReplicas": 0}}, "/autoscaling/minReplicas"),
    ],
)
def test_scaling_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    assert message in refusal(values, apis=[KEDA])


def test_keda_without_its_resources_is_refused() -> None:
    assert "needs KEDA" in refusal({"keda": {"enabled": True}})


def test_a_node_with_a_broken_pod_can_be_drained() -> None:
    spec = pick(render({"disruptionBudget": {"maxUnavailable": "20%"}}), "PodDisruptionBudget")["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == ("20%", "AlwaysAllow")
