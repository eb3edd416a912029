"""The commands of deploy/README.md; those that need a cluster up to their dry run."""

import base64
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_cluster import fake_cluster
from helm_chart import CHART, PROGRAMS, ROOT, program, render, server

from pixelserve import tokens

TEXT = (ROOT / "deploy" / "README.md").read_text()
FIVE, OUTSIDE, WITHOUT_HELM = (block.splitlines() for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))


def run(command: list[str], folder: Path = ROOT) -> str:
    path = f"{Path(sys.executable).parent}:{PROGRAMS}:{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=folder, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_takes_five_commands_to_a_prediction() -> None:
    programs = [shlex.split(line)[0] for line in FIVE]
    assert programs == ["make", "kind", "kubectl", "helm", "helm"]


@pytest.mark.slow
def test_the_image_that_is_built_and_loaded_is_the_one_that_the_chart_runs() -> None:
    assert "deploy.images build" in run([*shlex.split(FIVE[0]), "--dry-run"])
    values = CHART / "values-demo.yaml"
    assert shlex.split(FIVE[1])[-1] == server(render(files=[values]))["image"]


@pytest.mark.slow
def test_the_namespace_is_accepted_and_enforces_the_restricted_profile() -> None:
    with fake_cluster("digits", "inference", "none", {}) as flags:
        command = [
            program("kubectl"),
            *shlex.split(FIVE[2])[1:],
            "--dry-run=client",
            "--validate=false",
            f"--server={flags[-1]}",
        ]
        assert run(command).strip() == "namespace/inference created (dry run)"
    labels = yaml.safe_load((ROOT / "deploy" / "namespace.yaml").read_text())["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.slow
def test_the_release_installs_and_has_the_tests_that_the_last_command_runs() -> None:
    with fake_cluster("digits", "inference", "none", {}) as flags:
        printed = run([program("helm"), *shlex.split(FIVE[3])[1:], *flags])
    assert "STATUS: pending-install" in printed
    _, subcommand, release, *_ = shlex.split(FIVE[4])
    assert (subcommand, release) == ("test", shlex.split(FIVE[3])[3])
    assert printed.count("helm.sh/hook: test") == 2
    log = re.search(r"kubectl logs job/(\S+)", TEXT)
    assert log is not None
    assert f"name: {log[1]}\n" in printed


@pytest.mark.slow
def test_the_service_and_the_secret_that_clients_need_have_these_names() -> None:
    objects = {(each["kind"], each["metadata"]["name"]) for each in render()}
    assert ("Service", shlex.split(OUTSIDE[0])[2].removeprefix("service/")) in objects
    secret = re.search(r"get secret (\S+)", OUTSIDE[1])
    assert secret is not None
    assert ("Secret", secret[1]) in objects


@pytest.mark.slow
def test_the_secrets_for_kustomize_are_what_a_server_and_its_clients_read(tmp_path: Path) -> None:
    program("kubectl")
    new_infer, new_observe, for_servers, for_clients, apply = WITHOUT_HELM
    for line in (new_infer, new_observe):
        run(["bash", "-c", line], tmp_path)
    made = [
        yaml.safe_load(run(["bash", "-c", f"{line} --dry-run=client --output yaml"], tmp_path))
        for line in (for_servers, for_clients)
    ]
    file, clients = ({name: _decoded(text) for name, text in secret["data"].items()} for secret in made)
    digests = [token.digest for token in tokens.parse_tokens(file["tokens"])]
    assert digests == [tokens.digest_of(clients[scope]) for scope in ("infer", "observe")]
    built = list(yaml.safe_load_all(run(["kubectl", "kustomize", shlex.split(apply)[-1]])))
    assert made[0]["metadata"]["name"] in str(built)
    assert {secret["metadata"]["namespace"] for secret in made} == {each["metadata"]["namespace"] for each in built}


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
