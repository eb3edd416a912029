"""A real Prometheus scrapes a working server: its rules are healthy, and no panel of the dashboard is empty."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from busy_clients import METHOD, Clients
from prometheus import Prometheus, scraping

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
MISSING = "Prometheus is not installed; install it: apt install prometheus"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=MISSING)
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason=MISSING)


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "deploy" / "prometheus"


def alerts(folder: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((folder / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@needs_promtool
def test_the_rules_do_what_their_tests_say(folder: Path) -> None:
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_firing_and_not_firing(folder: Path) -> None:
    tested = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load((folder / "rules_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert sorted(tested) == sorted((name, fires) for name in alerts(folder) for fires in (False, True))


def test_every_alert_leads_to_its_paragraph(folder: Path, root: Path) -> None:
    headings = [line[4:] for line in (root / "docs" / "operations.md").read_text().splitlines() if line[:4] == "### "]
    assert headings == list(alerts(folder))
    for name, rule in alerts(folder).items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


@pytest.fixture
def server(start_server: Callable[..., Any], root: Path) -> Any:
    options = ("--load-models", "mnist-cnn", "--model-control-mode", "explicit", "--target-p99-ms", "10000")
    return start_server(root / "models", *options)


@pytest.fixture
def prometheus(server: Any, tmp_path: Path) -> Iterator[Prometheus]:
    """Scrapes the server, with the project's rules."""
    with scraping(server.metrics, tmp_path) as running:
        yield running


@pytest.fixture
def busy(server: Any) -> Iterator[None]:
    """Keeps the server busy: with pictures, and with requests that are wrong or late."""
    good, unknown, late = (request(name) for name in ("mnist-cnn", "none", "mnist-cnn"))
    late.parameters["timeout"].int64_param = 1
    with Clients() as clients:
        infer = clients.connections.enter_context(grpc.insecure_channel(server.grpc)).unary_unary(METHOD)

        def send() -> str:
            for message in (good, unknown, late):
                infer.future(message.SerializeToString(), timeout=TIMEOUT_S).code()
            return "sent"

        clients.add(send)
        yield


def request(model: str) -> pb.ModelInferRequest:
    pixels = bytes(range(256)) * 49
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[pixels[: 8 * 784]])
    message.inputs.add(name="image", datatype="UINT8", shape=(8, 28, 28, 1))
    return message


@needs_prometheus
@pytest.mark.slow
def test_no_panel_is_empty_and_every_rule_is_healthy(
    prometheus: Prometheus, busy: None, root: Path, eventually: Callable[..., None]
) -> None:
    panels = json.loads((root / "deploy" / "grafana" / "dashboard.json").read_text())["panels"]
    queries = {target["expr"]: panel["title"] for panel in panels for target in panel["targets"]}
    assert len(queries) > 12

    def empty() -> list[str]:
        """Returns the panels with a query whose answer is nothing, or no number."""
        answers = {query: prometheus.ask("query", query=query)["result"] for query in queries}
        return [
            queries[query] for query, found in answers.items() if not any(each["value"][1] != "NaN" for each in found)
        ]

    eventually(lambda: empty() == [], timeout_s=TIMEOUT_S)
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    eventually(
        lambda: all(r["health"] == "ok" for g in prometheus.ask("rules")["groups"] for r in g["rules"]),
        timeout_s=TIMEOUT_S,
    )
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert target["health"] == "up", target["lastError"]
