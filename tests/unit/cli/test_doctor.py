"""`pixelserve doctor`: its output as text and JSON, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.cli.exits import Exit

Run = Callable[..., Any]


@pytest.fixture
def repository(doubler_repository: Path) -> Path:
    """The doubler, and a model whose configuration has two mistakes and a field that is ignored."""
    broken = doubler_repository / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "1" / "model.onnx").write_bytes((doubler_repository / "doubler" / "1" / "model.onnx").read_bytes())
    (broken / "config.pbtxt").write_text(
        'max_batch: 8\nmetric_tags { key: "a" value: "b" }\ninstance_group { passive: true }\n'
    )
    return doubler_repository


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_it_says_each_problem_with_its_place_and_what_to_write(run: Run, repository: Path, quick: list[str]) -> None:
    ran = run("doctor", repository, *quick)
    assert ran.code == Exit.UNSERVABLE
    assert ran.err == ""
    config = repository / "broken" / "config.pbtxt"
    evidence = "as far as its files say; it was not loaded" if quick else "unverified: no card.json"
    no_card = "no card.json: unverified; `pixelserve export` writes a version with its evidence"
    assert ran.out.splitlines() == [
        f"{config}:1: error: `max_batch: 8`: ModelConfig has no max_batch",
        "    write: max_batch_size: 8",
        f"{config}:3: error: instance_group.passive is not served: "
        "a session that takes no requests is of no use; remove it",
        f"{config}:2: warning: not served, ignored: metric_tags: metrics are labelled with the model and the version",
        f"{repository / 'broken' / '1'}: warning: {no_card}",
        f"{repository / 'doubler' / '1'}: warning: {no_card}",
        f"doubler version 1: would serve, {evidence}",
        "1 of 2 models would serve; 2 errors, 3 warnings",
    ]


def test_warnings_alone_are_no_failure(run: Run, doubler_repository: Path) -> None:
    ran = run("doctor", doubler_repository)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "1 of 1 model would serve; 0 errors, 1 warning"


def test_programs_get_everything_as_json(run: Run, repository: Path) -> None:
    ran = run("doctor", repository, "--json")
    assert ran.code == Exit.UNSERVABLE
    report = json.loads(ran.out)
    assert report["would_serve"] is False
    assert report["models"] == [
        {"name": "broken", "would_serve": False, "versions": {}},
        {"name": "doubler", "would_serve": True, "versions": {"1": "unverified: no card.json"}},
    ]
    assert len(report["findings"]) == 5
    assert report["findings"][0] == {
        "model": "broken",
        "severity": "error",
        "path": str(repository / "broken" / "config.pbtxt"),
        "line": 1,
        "problem": "`max_batch: 8`: ModelConfig has no max_batch",
        "write": "max_batch_size: 8",
    }
    assert report["findings"][-1]["line"] is report["findings"][-1]["write"] is None


def test_the_servers_settings_hold_for_it(run: Run, doubler_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in (["--require-card"], ["--config", "server.toml"], []):
        monkeypatch.chdir(doubler_repository.parent)
        Path("server.toml").write_text("require_card = true\n")
        if not options:
            monkeypatch.setenv("PIXELSERVE_REQUIRE_CARD", "true")
        ran = run("doctor", doubler_repository, *options, "--device", "cpu")
        assert ran.code == Exit.UNSERVABLE, options
        assert "error: no card.json, and --require-card is on" in ran.out


def test_a_repository_without_models_is_said_to_be_empty(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", tmp_path)
    assert ran.code == Exit.UNSERVABLE
    assert f"{tmp_path}: error: model repository {tmp_path} holds no model" in ran.out
    assert ran.out.splitlines()[-1] == "0 of 0 models would serve; 1 error, 0 warnings"


def test_a_wrong_setting_is_an_error_of_its_own(run: Run, doubler_repository: Path) -> None:
    ran = run("doctor", doubler_repository, "--device", "tpu")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith("pixelserve: --device (or PIXELSERVE_DEVICE) is 'tpu'")


def test_names_from_the_disk_cannot_steer_a_terminal(run: Run, doubler_repository: Path) -> None:
    (doubler_repository / "doubler" / "a\x1b[2J").write_text("x")
    ran = run("doctor", doubler_repository)
    assert "\x1b" not in ran.out
    assert "\\x1b[2J" in ran.out
