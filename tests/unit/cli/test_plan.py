"""`pixelserve plan`, and its errors."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from measured_curves import curve

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "pixelserve"
HELM = ROOT / ".venv" / "deploy" / "bin" / "helm"
Run = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A measured curve."""
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(curve()))
    return path


def test_a_plan_names_pods_resources_scaling_and_its_sources(run: Run, file: Path) -> None:
    ran = run("plan", "--bench", file, "--rps", 1000, "--p99-ms", 50)
    assert ran.code == 0, ran.err
    assert "digits version 3: 1,000 requests/s with p99 of 50 ms" in ran.out
    for part in (
        "pods        4, of which 1 may be lost",
        "CPU         1 core",
        "memory      1,024 MiB",
        "limited by p99",
    ):
        assert part in ran.out
    for source in ("Neuts 1967", "Little 1961", "least squares", "--max-inflight-mib"):
        assert source in ran.out


def test_a_plan_for_pictures_says_what_its_p99_leaves_out(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(curve(method="/pixelserve.v1.Classifier/Classify")))
    out = run("plan", "--bench", path, "--rps", 1000, "--p99-ms", 50).out
    assert "threads that decode pictures" in out
    assert "pixelserve bench --model digits --rate 333" in out


def test_the_json_has_the_figures_of_the_text(run: Run, file: Path) -> None:
    found = json.loads(run("plan", "--bench", file, "--rps", 1000, "--p99-ms", 50, "--json").out)
    assert found["pods"] == found["with_all_pods"]["pods"] == 4
    assert found["with_spare_pods_lost"]["p99_ms"] <= 50
    assert found["with_spare_pods_lost"]["requests_per_s"] == pytest.approx(1000 / 3)
    assert found["pod"]["cpu_cores"] == 1
    assert found["autoscaling"]["min"] == 4


def values(run: Run, path: Path, *arguments: object) -> Any:
    ran = run("plan", "--bench", path, "--rps", 1000, "--p99-ms", 50, "--helm-values", *arguments)
    assert ran.code == 0, ran.err
    return yaml.safe_load(ran.out)


def test_the_helm_values_are_the_plan(run: Run, file: Path) -> None:
    found = values(run, file)
    assert found["replicas"] == found["autoscaling"]["minReplicas"] == 4
    assert found["resources"]["requests"] == found["resources"]["limits"] == {"cpu": "1", "memory": "1024Mi"}
    assert 0 < found["autoscaling"]["targetWaiting"] < 5


def test_helm_values_leave_to_the_chart_what_was_not_measured(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    levels = [level | {"cpu_ms_per_request": None} for level in curve()["levels"]]
    path.write_text(json.dumps(curve(levels=levels, memory_bytes=None)))
    assert "resources" not in values(run, path)
    assert (
        "not measured: measure the curve with --metrics-url"
        in run("plan", "--bench", path, "--rps", 9, "--p99-ms", 50).out
    )


@pytest.mark.slow
@pytest.mark.skipif(not (HELM.exists() or shutil.which("helm")), reason="no helm; `make deploy-check` installs it")
def test_the_chart_takes_the_values(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        run("plan", "--bench", file, "--rps", 1000, "--p99-ms", 50, "--helm-values").out
    )
    helm = str(HELM) if HELM.exists() else "helm"
    command = [helm, "template", "digits", str(CHART), "--values", str(tmp_path / "values.yaml")]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    objects = {each["kind"]: each for each in yaml.safe_load_all(rendered) if each}
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (4, 8)
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1024Mi"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rps", 0), "--rps 0: expected a number above 0"),
        (("--rps", -5), "--rps -5"),
        (("--rps", "nan"), "--rps nan"),
        (("--rps", "inf"), "--rps inf"),
        (("--rps", "1e300"), "Kubernetes supports 150,000 pods"),
        (("--rps", "many"), "Invalid value for '--rps'"),
        (("--p99-ms", 0), "--p99-ms 0: expected a number above 0"),
        (("--p99-ms", -1), "--p99-ms -1"),
        (("--p99-ms", 3), "no number of pods keeps a p99 of 3 ms"),
        (("--batch-images", 0), "batch-images"),
        (("--batch-images", 64), "the largest measured run has 8 images"),
        (("--spare-pods", -1), "spare-pods"),
        (("--model", "cifar10"), "a curve of digits, not of cifar10"),
        (("--json", "--helm-values"), "--json and --helm-values exclude each other"),
        (("--metrics-url", "http://127.0.0.1:1/metrics"), "--bench and --metrics-url exclude each other"),
        (("--bench", "/nowhere/curve.json"), "cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_what_is_wrong(
    run: Run, file: Path, arguments: tuple[object, ...], message: str
) -> None:
    ran = run("plan", "--bench", file, "--rps", 1000, "--p99-ms", 50, *arguments)
    assert ran.code == 2
    assert message in " ".join(ran.err.replace("│", " ").split())
    assert not ran.out


def test_with_neither_a_file_nor_a_model_it_says_what_to_name(run: Run) -> None:
    ran = run("plan", "--rps", 1000, "--p99-ms", 50)
    assert ran.code == 2
    assert "pixelserve bench --model NAME --curve --json" in " ".join(ran.err.replace("│", " ").split())


def test_a_model_that_the_server_has_not_ends_with_4(ask: Run) -> None:
    assert ask("plan", "--rps", 1000, "--p99-ms", 50, "--model", "other").code == 4


def test_a_server_that_does_not_tell_of_its_runs_ends_with_1(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixelserve.bench import curve as measuring

    monkeypatch.setattr(measuring, "IN_FLIGHT", (1, 2))
    monkeypatch.setattr(measuring, "_WARM_UP_S", 0.05)
    ran = ask("bench", "--curve", "--model", "digits", "--duration-s", 0.1)
    assert ran.code == 1
    assert "does not report its runs (ModelStatistics)" in ran.err
    assert "note: the metrics page http://127.0.0.1:8002/metrics" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--curve", "--overload"), "exclude each other"),
        (("--curve", "--rate", 5), "--curve sets its own load"),
        (("--metrics-url", "http://127.0.0.1:1"), "--metrics-url needs --curve"),
        (("--curve", "--tls"), "without TLS"),
        (("--curve", "--address", "127.0.0.1:1"), "a curve needs a single server"),
    ],
)
def test_a_curve_has_its_own_load(ask: Run, fake: Any, arguments: tuple[object, ...], message: str) -> None:
    ran = ask(
        "bench", "--model", "digits", *(["--address", fake.address] if "--address" in arguments else []), *arguments
    )
    assert ran.code == 2
    assert message in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/metrics", "cannot be read"),
        ("file:///etc/passwd", "expected a URL"),
        ("there", "expected a URL"),
    ],
)
def test_a_metrics_page_that_is_named_must_be_there(ask: Run, url: str, message: str) -> None:
    ran = ask("bench", "--curve", "--model", "digits", "--metrics-url", url)
    assert ran.code == 1
    assert message in ran.err
