"""The chart's training Job, container by container, in a sandbox with Kubernetes's user and mounts."""

import json
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helm_chart import ROOT, Manifest, training_job

Rounds = Callable[..., str]
WEAK, STRONG = ["--epochs=1", "--lr=0.0001"], ["--epochs=5"]


class Volumes:
    """The volumes of a pod, as folders; each Job's pod gets a new `work` and `tmp`."""

    def __init__(self, folder: Path) -> None:
        """Makes them; the user of the pod may write to them."""
        self._folder = folder
        self.models = self.new("models")
        self.data = self.new("data")

    def new(self, name: str) -> Path:
        """Returns an empty folder of that name."""
        path = self._folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        path.chmod(0o777)
        return path


def sandbox(container: Manifest, volumes: dict[str, Path], job: str) -> list[str]:
    """Returns the command that runs a container: user 65532, a root that is read-only, no network, no home."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bwrap is not installed (Debian: bubblewrap)")
    command = [bwrap, "--unshare-user", "--unshare-net", "--uid", "65532", "--gid", "65532", "--clearenv"]
    command += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for mount in container["volumeMounts"]:
        kind = "--ro-bind" if mount.get("readOnly") else "--bind"
        command += [kind, str(volumes[mount["name"]]), mount["mountPath"]]
    # What the image has: the interpreter, the environment and the project; after the volumes, which would hide a clone
    # that lies below /work or /tmp.
    for path in dict.fromkeys(map(str, ("/usr", "/etc", sys.base_prefix, sys.prefix, ROOT))):
        command += ["--ro-bind", path, path]
    command += ["--remount-ro", "/"]
    for each in container["env"]:
        command += ["--setenv", each["name"], each.get("value", job)]
    program = str(Path(sysconfig.get_path("scripts")) / "pixelserve")
    return [*command, program, *(argument.replace("$(JOB_NAME)", job) for argument in container["args"])]


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


@pytest.fixture
def run_job(volumes: Volumes) -> Rounds:
    """Runs the rendered Job of one round and returns the log of its last container."""

    def run(options: list[str], *, seed: int) -> str:
        training = {"recipe": "iris", "trainOptions": ["--hold-out=0.25", f"--seed={seed}", *options]}
        values: dict[str, Any] = {
            "models": {"source": "pvc", "pvc": {"claimName": "models"}},
            "server": {"settings": {"model_control_mode": "poll"}},
            "training": {"enabled": True, "data": {"claimName": "data"}, **training},
        }
        job = training_job(values)
        spec = job["spec"]["template"]["spec"]
        mounted = {"models": volumes.models, "data": volumes.data, "work": volumes.new("work")}
        mounted["tmp"] = volumes.new("tmp")
        log = ""
        for container in (*spec["initContainers"], *spec["containers"]):
            command = sandbox(container, mounted, job["metadata"]["name"])
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
            log = done.stdout
        return log

    return run


def versions(models: Path) -> list[str]:
    return sorted(path.name for path in (models / "iris").iterdir() if path.name.isdigit())


def default_version(http: str) -> str:
    """Returns which version of iris answers a request without a version."""
    row = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    body = json.dumps({"inputs": [row]}).encode()
    with urllib.request.urlopen(f"{http}/v2/models/iris/infer", body, timeout=30) as answer:
        version: str = json.load(answer)["model_version"]
    return version


@pytest.mark.slow
def test_the_first_version_is_published_a_better_one_served_and_a_worse_one_refused(
    run_job: Rounds, volumes: Volumes, start_server: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    assert "published: the model has no version yet" in run_job(WEAK, seed=1)
    server = start_server(volumes.models, "--model-control-mode", "poll", "--repository-poll-s", "1")
    http = server.http
    assert default_version(http) == "1"

    better = run_job(STRONG, seed=2)
    assert "published: of 30 samples the candidate gets" in better
    assert versions(volumes.models) == ["1", "2"]
    eventually(lambda: default_version(http) == "2", timeout_s=60)

    worse = run_job(WEAK, seed=1)
    assert worse.startswith("not published: of 30 samples the candidate gets")
    assert versions(volumes.models) == ["1", "2"]
    assert default_version(http) == "2"
