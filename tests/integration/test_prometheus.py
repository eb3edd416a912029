"""A real Prometheus scrapes a working server: its rules are healthy, and no panel of the dashboard is empty."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
MISSING = "Prometheus is not installed; install it to run this test: apt install prometheus"
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


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Prometheus:
    """A running one."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}?{query}", timeout=TIMEOUT_S) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


@pytest.fixture
def server(start_server: Callable[..., Any], root: Path) -> Any:
    return start_server(root / "models", "--load-models", "mnist-cnn", "--model-control-mode", "explicit")


@pytest.fixture
def prometheus(server: Any, folder: Path, tmp_path: Path, eventually: Callable[..., None]) -> Iterator[Prometheus]:
    """Scrapes the server every half second, with the project's rules."""
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(folder / "rules.yml")]
    target = urllib.parse.urlsplit(server.metrics).netloc
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={tmp_path / 'data'}"], stdout=log, stderr=subprocess.STDOUT
        )
    running = Prometheus(address)
    try:
        eventually(running.is_ready, timeout_s=TIMEOUT_S)
        yield running
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


@pytest.fixture
def load(server: Any) -> Iterator[None]:
    """Keeps the server busy: with pictures, and now and then with a request that is wrong."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[8, 28, 28, 1])
    pixels = np.random.default_rng(0).integers(0, 255, (8, 28, 28, 1), np.uint8).tobytes()
    good = pb.ModelInferRequest(model_name="mnist-cnn", inputs=[tensor], raw_input_contents=[pixels])
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            server.stub().ModelInfer(good, timeout=TIMEOUT_S)
            # As one whose deadline has passed, which the server fails.
            for wrong in (pb.ModelInferRequest(model_name="none"), _late(good)):
                with contextlib.suppress(grpc.RpcError):
                    server.stub().ModelInfer(wrong, timeout=TIMEOUT_S)
            time.sleep(0.02)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    over.set()
    thread.join()


def _late(request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    late = pb.ModelInferRequest()
    late.CopyFrom(request)
    late.parameters["timeout"].int64_param = 1
    return late


@needs_prometheus
@pytest.mark.slow
def test_no_panel_is_empty_and_every_rule_is_healthy(
    prometheus: Prometheus, load: None, root: Path, eventually: Callable[..., None]
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
