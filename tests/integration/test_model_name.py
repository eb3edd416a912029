"""--model-name serves a folder that is a single model or version, in each layout that KServe may leave."""

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL = "mnist-cnn"


def as_repository(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder / MODEL)


def as_model(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def as_model_without_config(source: Path, folder: Path) -> None:
    shutil.copytree(source / "1", folder / "1")


def as_version(source: Path, folder: Path) -> None:
    shutil.copytree(source / "1", folder, dirs_exist_ok=True)


def as_version_with_config(source: Path, folder: Path) -> None:
    as_version(source, folder)
    for name in ("config.pbtxt", "labels.txt"):
        shutil.copy(source / name, folder)


def as_one_file(source: Path, folder: Path) -> None:
    shutil.copy(source / "1" / "model.onnx", folder / "digits-v3.onnx")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arrange", "name", "evidence"),
    [
        (as_repository, MODEL, "verified"),
        (as_model, "digits", "verified"),
        (as_model_without_config, "digits", "verified"),
        (as_version, "digits", "verified"),
        (as_version_with_config, "digits", "verified"),
        (as_one_file, "digits", "unverified: no card.json"),
    ],
)
def test_each_form_is_served_under_a_name(
    root: Path,
    models: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    arrange: Callable[[Path, Path], None],
    name: str,
    evidence: str,
) -> None:
    arrange(root / "models" / MODEL, models)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    server = start_server(models, "--model-name", "digits", env={"TMPDIR": str(temporary)})
    with urllib.request.urlopen(f"{server.http}/v2/models/{name}", timeout=30) as answer:
        told = json.load(answer)
    assert (told["name"], told["versions"]) == (name, ["1"])
    loaded = next(each for each in server.events() if each["event"] == "model loaded")
    assert str(loaded["evidence"]).startswith(evidence)
    assert server.stop() == 0
    assert not list(temporary.glob("pixelserve-files-*"))


def test_a_folder_that_is_a_model_is_named_in_the_error(root: Path, models: Path, failing_serve: Any) -> None:
    as_model(root / "models" / MODEL, models)
    assert "name it: --model-name NAME" in failing_serve("--model-repository", str(models)).message


def test_of_several_graphs_one_has_to_be_named(root: Path, models: Path, failing_serve: Any) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(root / "models" / MODEL / "1" / "model.onnx", models / name)
    message = failing_serve("--model-repository", str(models), "--model-name", "digits").message
    assert "holds 2 models: a.onnx, b.onnx; rename the one to serve to model.onnx" in message
    assert 'default_model_filename: "a.onnx"' in message


def test_an_empty_folder_holds_no_model_under_any_name(models: Path, failing_serve: Any) -> None:
    assert "holds no model" in failing_serve("--model-repository", str(models), "--model-name", "digits").message


@pytest.mark.parametrize("mode", ["poll", "explicit"])
def test_a_folder_that_may_change_needs_a_repository(models: Path, failing_serve: Any, mode: str) -> None:
    message = failing_serve(
        "--model-repository", str(models), "--model-name", "digits", "--model-control-mode", mode
    ).message
    assert f"--model-control-mode {mode} changes what is served" in message


@pytest.mark.parametrize("name", ["../up", ".hidden", "", "a/b"])
def test_a_name_that_leads_elsewhere_is_refused(models: Path, failing_serve: Any, name: str) -> None:
    failure = failing_serve("--model-repository", str(models), "--model-name", name)
    assert failure.code == 2
    assert "--model-name" in failure.message
