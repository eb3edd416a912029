"""`pixelserve models image`: output and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODELS = Path(__file__).resolve().parents[3] / "models"


@pytest.fixture(autouse=True)
def _repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", str(MODELS))


def test_it_prints_the_digest_first(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("models", "image", "mnist-cnn/1", "--to", f"oci:{tmp_path}/images")
    index = json.loads((tmp_path / "images" / "index.json").read_bytes())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        index["manifests"][0]["digest"],
        f"oci:{tmp_path}/images:mnist-cnn-1: mnist-cnn version 1",
    ]


def test_json_has_what_a_rollout_needs(run: Callable[..., Any], tmp_path: Path) -> None:
    printed = json.loads(run("models", "image", "mnist-cnn/1", "--to", f"oci:{tmp_path}/images:v1", "--json").out)
    assert printed["pinned"] == f"oci:{tmp_path}/images@{printed['digest']}"
    assert printed["reference"] == f"oci:{tmp_path}/images:v1"
    assert printed["annotations"]["pixelserve.accuracy"] == "0.9932"
    pulled = run("models", "pull", printed["pinned"], "--model-repository", tmp_path / "target", "--json")
    assert json.loads(pulled.out)["versions"][0]["sha256"] == printed["annotations"]["pixelserve.sha256"]


def test_a_version_without_a_card_is_warned_of(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "models" / "bare" / "1").mkdir(parents=True)
    (tmp_path / "models" / "bare" / "1" / "model.onnx").write_bytes(b"a model")
    command = ["models", "image", "bare/1", "--model-repository", tmp_path / "models", "--to", f"oci:{tmp_path}/images"]
    ran = run(*command)
    assert ran.code == 0
    assert ran.err == "warning: bare version 1 has no card.json, so it cannot be verified\n"


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["mnist-cnn", "--to", "oci:x"], 2, "expected MODEL/VERSION"),
        (["mnist-cnn/stable", "--to", "oci:x"], 2, "expected MODEL/VERSION"),
        (["mnist-cnn/01", "--to", "oci:x"], 2, "expected MODEL/VERSION"),
        (["/1", "--to", "oci:x"], 2, "expected MODEL/VERSION"),
        (["mnist-cnn/1", "--to", "images"], 2, "does not name an image"),
        (["mnist-cnn/1", "--to", "oci://registry.example.org/a"], 2, "needs a tag"),
        (["mnist-cnn/7", "--to", "oci:x"], 4, "has no version 7; it has 1"),
        (["letters/1", "--to", "oci:x"], 4, "has no model letters"),
        (["mnist-cnn/1", "--to", "oci://127.0.0.1:1/a:1"], 5, "does not answer"),
    ],
)
def test_an_error_is_one_sentence(
    run: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("models", "image", *arguments)
    assert ran.code == code
    assert ran.err.startswith("pixelserve: ")
    assert problem in ran.err
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
