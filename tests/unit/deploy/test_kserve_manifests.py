"""deploy/kserve: the runtime's command serves KServe's layouts. `make deploy-check` validates the objects."""

import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kserve"
Manifest = dict[str, Any]


def manifest(name: str) -> Manifest:
    found: Manifest = yaml.safe_load((FOLDER / name).read_text())
    return found


def runtime_container() -> Manifest:
    (container,) = manifest("runtime.yaml")["spec"]["containers"]
    found: Manifest = container
    return found


def test_the_kubelet_waits_for_settle_and_grace() -> None:
    options = dict(each.split("=") for each in runtime_container()["args"] if "=" in each)
    needed = float(options["--drain-settle-s"]) + float(options["--grace-s"]) + 2
    assert manifest("inferenceservice.yaml")["spec"]["predictor"]["terminationGracePeriodSeconds"] == needed


def test_gateways_find_http_first_and_grpc_by_its_name() -> None:
    first, second = runtime_container()["ports"]
    assert (first["containerPort"], second["name"]) == (8080, "h2c")
    assert {"--http-port=8080", f"--grpc-port={second['containerPort']}"} <= set(runtime_container()["args"])


@pytest.mark.slow
@pytest.mark.parametrize("is_repository", [True, False])
def test_the_runtimes_command_serves_what_the_storage_initializer_leaves(
    tmp_path: Path, start_server: Callable[..., Any], is_repository: bool
) -> None:
    models, name = tmp_path / "models", manifest("inferenceservice.yaml")["metadata"]["name"]
    shutil.copytree(ROOT / "models" / name, models / name if is_repository else models)
    command, *options = runtime_container()["args"]
    assert command == "serve"
    # Ports and the folder are this test's; a shorter settle only ends it sooner.
    own = ("--model-repository", "--host", "--http-port", "--grpc-port", "--drain-settle-s")
    kept = [each.replace("{{.Name}}", name) for each in options if not each.startswith(own)]
    server = start_server(models, *kept)
    probe = runtime_container()["readinessProbe"]["httpGet"]["path"]
    for path in (probe, f"/v2/models/{name}/ready"):
        with urllib.request.urlopen(f"{server.http}{path}", timeout=30) as answer:
            assert answer.status == 200
    live = runtime_container()["livenessProbe"]["httpGet"]["path"]
    with urllib.request.urlopen(server.metrics.replace("/metrics", live), timeout=30) as answer:
        assert answer.status == 200
    assert server.stop() == 0
