"""Each check of `make deploy-check` finds its faults, and the chart passes them all."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "deploy" / "bin" / "python"
CHART = ROOT / "deploy" / "helm" / "pixelserve"
MISSING = "needs .venv/deploy, .venv/checkov, .venv/crds and .venv/kserve; make test installs them"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON.exists(), reason=MISSING)]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: tiny}
spec:
  replicas: 2
  selector: {matchLabels: {app: tiny}}
  template:
    metadata: {labels: {app: tiny}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: server
          image: tiny:1
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""
BROKEN = {
    "typo": (DEPLOYMENT.replace("replicas", "replica"), "'replica' was unexpected"),
    "type": (DEPLOYMENT.replace("replicas: 2", "replicas: two"), "'two' is not of type 'integer'"),
    "kind": ("apiVersion: apps/v1\nkind: Deploymint\nmetadata: {name: a}\n", "no schema of apps/v1 Deploymint found"),
    "gone": (
        "apiVersion: autoscaling/v2beta2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\n",
        "no schema of autoscaling/v2beta2 HorizontalPodAutoscaler found [all releases",
    ),
    "young": (
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: a}\n",
        "ValidatingAdmissionPolicy found [1.29;",
    ),
    "custom typo": (
        "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: a}\n"
        "spec: {selector: {}, podMetricsEndpoints: [{port: metrics, intervall: 15s}]}\n",
        "spec.podMetricsEndpoints.0: unknown field intervall",
    ),
    "custom type": (
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a}\n"
        "spec: {scaleTargetRef: {name: a}, minReplicaCount: two, triggers: []}\n",
        "spec.minReplicaCount: type integer",
    ),
    "stranger": ("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n", "no schema of example.com/v1 Thing"),
}


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-m", "deploy.checks", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=540
    )


def failures(check: str, chart: Path) -> list[str]:
    """Returns a check's findings in a chart, and checks the exit code."""
    done = run("--only", check, "--chart", chart, "--json")
    (report,) = json.loads(done.stdout)
    assert done.returncode == bool(report["failures"]), done.stderr
    return list(report["failures"])


def evaluate(expression: str, *folders: Path) -> Any:
    """Returns the value of an expression over the checks' modules and `f`, the folders."""
    modules = "dockerfiles, kserve_objects, kustomize, matrix, options, queries"
    code = f"import json, sys, yaml; from pathlib import Path; from deploy.checks import {modules}"
    code += f"; f = [Path(name) for name in sys.argv[1:]]; print(json.dumps({expression}))"
    done = subprocess.run([PYTHON, "-c", code, *folders], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """Writes a chart of one Deployment and other templates, by name."""

    def write(deployment: str = DEPLOYMENT, **templates: str) -> Path:
        folder = tmp_path / "tiny"
        (folder / "templates").mkdir(parents=True)
        (folder / "Chart.yaml").write_text(
            "{apiVersion: v2, name: tiny, version: 1.0.0, icon: 'https://a.example/a.png'}"
        )
        (folder / "values.yaml").write_text("{}\n")
        for name, text in {"deployment": deployment, **templates}.items():
            (folder / "templates" / f"{name}.yaml").write_text(text)
        return folder

    return write


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A copy of PixelServe's chart, to break."""
    return Path(shutil.copytree(CHART, tmp_path / "pixelserve"))


@pytest.mark.parametrize("check", ["lint", "schemas", "restricted", "consistency"])
def test_a_check_passes_a_good_chart(tiny: Callable[..., Path], check: str) -> None:
    assert failures(check, tiny()) == []


def test_the_schemas_find_each_kind_of_invalid_object(tiny: Callable[..., Path]) -> None:
    texts = {name.replace(" ", "-"): text for name, (text, _) in BROKEN.items()}
    found = failures("schemas", tiny(**texts))
    assert len(found) == len(BROKEN)
    for name, (_, message) in BROKEN.items():
        assert [line for line in found if message in line], f"{name}: {message} is not in {found}"


@pytest.mark.parametrize("template", ["{{ fail `no` }}", "{{ .Values.a.b }}", "a: 1\na: 2\n"])
def test_a_template_that_does_not_render_fails_the_schemas(tiny: Callable[..., Path], template: str) -> None:
    assert failures("schemas", tiny(other=template))


def test_lint_fails_on_a_template_that_is_not_yaml(tiny: Callable[..., Path]) -> None:
    assert failures("lint", tiny(other="a: [\n"))


def test_restricted_names_the_pod_without_seccomp(tiny: Callable[..., Path]) -> None:
    chart = tiny(DEPLOYMENT.replace(", seccompProfile: {type: RuntimeDefault}", ""))
    fault = "Deployment/tiny: container server has the seccomp profile none [values.yaml]"
    assert failures("restricted", chart) == [fault]


def test_consistency_names_the_service_that_finds_no_pod(tiny: Callable[..., Path]) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: tin}, ports: [{port: 1}]}\n"
    fault = "Service/a: the selector {'app': 'tin'} finds no pod [values.yaml]"
    assert failures("consistency", tiny(service=text)) == [fault]


def test_checkov_finds_a_privileged_container(tiny: Callable[..., Path]) -> None:
    chart = tiny(DEPLOYMENT.replace("allowPrivilegeEscalation: false", "privileged: true"))
    assert any("CKV_K8S_16" in line for line in failures("checkov", chart))


def test_envoy_refuses_a_broken_configuration(tiny: Callable[..., Path]) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: envoy}\n"
    text += "data: {envoy.yaml: 'static_resources: {listener: []}'}\n"
    (fault,) = failures("envoy", tiny(envoy=text))
    assert "listener" in fault


def test_hadolint_fails_on_a_base_without_a_tag(tmp_path: Path) -> None:
    (tmp_path / "server.Dockerfile").write_text("FROM debian\n")
    (fault,) = evaluate("dockerfiles.check(*f).failures", tmp_path)
    assert fault.startswith("server.Dockerfile:1: DL3006")
    (tmp_path / "server.Dockerfile").write_text("FROM debian:13\n")
    assert evaluate("dockerfiles.check(*f).failures", tmp_path) == []


def test_a_folder_without_files_passes_no_check(tmp_path: Path) -> None:
    assert evaluate("dockerfiles.check(*f).failures", tmp_path)
    assert evaluate("kserve_objects.check(*f).failures", tmp_path)


def test_kserve_objects_are_checked_against_its_api_and_the_profile(tmp_path: Path) -> None:
    container = {"name": "kserve-container", "image": "a:1", "imagePullPolice": "Always"}
    runtime = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ClusterServingRuntime", "metadata": {"name": "a"}}
    model = {"modelFormat": {"name": "onnx"}, "runtime": "stranger"}
    service = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "b"}}
    documents = [{**runtime, "spec": {"containers": [container], "protocols": []}}]
    documents += [{**service, "spec": {"predictor": {"model": model}}}]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all(documents))
    found = evaluate("kserve_objects.check(*f).failures", tmp_path)
    for expected in (
        "spec: unknown field protocols",
        "unknown field imagePullPolice",
        "seccomp profile none",
        "no runtime stranger",
    ):
        assert [line for line in found if expected in line], f"{expected} is not in {found}"


def test_an_unequal_kustomization_fails(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "kustomize", tmp_path / "kustomize")
    assert evaluate("kustomize.check(*f).failures", ours, tmp_path / "kustomize") == []
    values = ours / "values.yaml"
    values.write_text(values.read_text().replace("replicas: 2", "replicas: 3", 1))
    found = evaluate("kustomize.check(*f).failures", ours, tmp_path / "kustomize")
    assert "base: Deployment/pixelserve: spec.replicas is 2 in the kustomization, 3 in the chart" in found


@pytest.mark.parametrize("file", ["templates/_monitoring.tpl", "files/prometheus-adapter.yaml"])
def test_a_scaling_query_that_counts_wrongly_fails(ours: Path, file: str) -> None:
    asked = "queries.scaling_faults(f[0], yaml.safe_load(queries.TESTS.read_text()))"
    assert evaluate(asked, ours) == []
    changed = ours / file
    changed.write_text(changed.read_text().replace("rate(", "2 * rate("))
    assert evaluate(asked, ours)


def test_a_scaling_query_without_a_test_fails(ours: Path) -> None:
    adapter = ours / "files" / "prometheus-adapter.yaml"
    adapter.write_text(adapter.read_text().replace("as: pixelserve_requests_waiting", "as: other"))
    found = evaluate("queries.scaling_faults(f[0], yaml.safe_load(queries.TESTS.read_text()))", ours)
    assert "adapter other: no test in queries.yaml" in found


def test_prometheus_rules_that_fail_their_tests_fail(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "deploy" / "prometheus", tmp_path / "prometheus"))
    assert evaluate("list(queries.rule_faults(*f))", folder) == []
    rules = folder / "rules.yml"
    rules.write_text(rules.read_text().replace("7 * 86400", "9 * 86400"))
    assert evaluate("list(queries.rule_faults(*f))", folder)


def test_a_chart_that_accepts_impossible_values_fails(ours: Path) -> None:
    assert failures("refusals", ours) == []
    (ours / "values.schema.json").unlink()
    assert "an unknown value: accepted" in failures("refusals", ours)


def test_every_possible_pair_of_choices_is_in_a_row() -> None:
    described, rows = evaluate("[options.options(), matrix.choices()]")
    apart = [set(pair.items()) for pair in described["impossible"]]
    for one, other in combinations(described["options"], 2):
        for pair in ({(one, a), (other, b)} for a in described["options"][one] for b in described["options"][other]):
            covered = any(pair <= set(row.items()) for row in rows)
            assert covered != (pair in apart), pair


def test_a_missing_tool_is_a_failure_that_names_its_package(tmp_path: Path) -> None:
    done = run("--only", "queries", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "promtool is missing; install it (Debian: apt install prometheus)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--chart", "docs"], "docs is not a chart: it has no Chart.yaml"), (["--only", "nothing"], "invalid choice")],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("spec", ["[1]", "{selector: 3, template: [1]}", "{template: {spec: {containers: 5}}}"])
def test_an_object_of_the_wrong_shape_fails_without_a_traceback(tiny: Callable[..., Path], spec: str) -> None:
    chart = tiny(f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {spec}\n")
    for check in ("schemas", "restricted", "consistency"):
        assert failures(check, chart)


def test_a_chart_without_values_or_with_a_broken_description_is_checked(tiny: Callable[..., Path]) -> None:
    chart = tiny()
    (chart / "values.yaml").unlink()
    assert failures("lint", chart) == failures("schemas", chart) == []
    (chart / "Chart.yaml").write_text("name: [")
    assert failures("lint", chart)
    assert failures("schemas", chart)


def test_a_check_of_this_repository_does_not_apply_to_other_charts(tiny: Callable[..., Path]) -> None:
    assert run("--only", "hadolint", "--chart", tiny()).returncode == 2


@pytest.mark.timeout(600)
def test_the_chart_and_the_files_beside_it_pass_every_check() -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
