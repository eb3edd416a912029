"""Pulling from a real object store, like an init container: whole versions or none, and clear errors."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing.s3 import S3Kills, contents
from object_store import PULL, WEED, ObjectStore, object_store

MODELS = Path(__file__).resolve().parents[2] / "models"
MODEL = MODELS / "mnist-cnn"
WAIT_S = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store that holds a model."""
    for program, target in ((WEED, "deploy"), (PULL, "pull-s3")):
        if not program.exists():
            pytest.skip(f"needs {program.name}: make .venv/stamps/{target}")
    with object_store(tmp_path_factory.mktemp("store")) as running:
        running.put(MODEL)
        yield running


@pytest.fixture
def pull(store: ObjectStore, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Pulls a URL into a repository, with only the store and the given variables in the environment."""

    def pull(url: str = "s3://models/mnist-cnn", **env: str) -> "subprocess.CompletedProcess[str]":
        command = [str(PULL), "models", "pull", url, "--model-repository", str(tmp_path / "models"), "--require-card"]
        known = {name: value for name, value in (store.env | env).items() if value}
        return subprocess.run(command, env=known, capture_output=True, text=True, check=False, timeout=WAIT_S)

    return pull


def test_an_init_container_needs_no_home_and_writes_nowhere_else(store: ObjectStore, tmp_path: Path) -> None:
    """All file systems are read-only, but for the volume; there are no capabilities and no /tmp."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs the Debian package bubblewrap")
    volume = tmp_path / "volume"
    volume.mkdir()
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", str(volume), str(volume)]
    command = [*sandbox, "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL", "--die-with-parent", str(PULL)]
    command += ["models", "pull", "s3://models/mnist-cnn", "--model-repository", str(volume), "--require-card"]
    ran = subprocess.run(command, env=store.env, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert ran.returncode == 0, ran.stderr
    assert contents(volume) == {f"mnist-cnn/{name}": data for name, data in contents(MODEL).items()}
    assert [path.name for path in volume.iterdir()] == ["mnist-cnn"]


def test_a_pull_is_repeated_at_every_start(pull: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    assert "version 1 added" in pull().stdout
    assert "version 1 unchanged" in pull().stdout


@pytest.mark.parametrize(
    ("url", "env", "code", "problem"),
    [
        ("s3://models/mnist-cnn", {"AWS_SECRET_ACCESS_KEY": "other"}, 4, "s3://models/mnist-cnn may not be read: "),
        ("s3://others/mnist-cnn", {}, 4, "s3://others/mnist-cnn may not be read: Access Denied"),
        ("s3://models/letters", {}, 4, "s3://models/letters: there is no such file or folder"),
        ("s3://models/mnist-cnn/1", {}, 4, "lists no version folder"),
        (
            "s3://models/mnist-cnn",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            5,
            "s3://models/mnist-cnn does not answer",
        ),
        (
            "s3://models/mnist-cnn",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"},
            4,
            "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ],
    ids=["wrong secret", "foreign bucket", "no such model", "a version's folder", "no store", "no credentials"],
)
def test_a_failed_pull_prints_one_sentence(
    pull: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
    url: str,
    env: dict[str, str],
    code: int,
    problem: str,
) -> None:
    ran = pull(url, **env)
    assert ran.returncode == code
    assert ran.stderr.startswith("pixelserve: ")
    assert problem in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "secret" not in ran.stderr.lower().replace("aws_secret_access_key", "")
    assert not (tmp_path / "models").exists()


@pytest.mark.timeout(600)
def test_a_pull_that_is_killed_leaves_whole_versions_or_none(store: ObjectStore, tmp_path: Path) -> None:
    """A few times here, 200 times by `make kills-s3`."""
    kills = S3Kills(store, tmp_path, seed=1)
    assert [problem for number in range(20) if (problem := kills.kill(number))] == []
    assert sum(kills.outcomes.values()) == 20
    assert any("killed" in outcome for outcome in kills.outcomes)
