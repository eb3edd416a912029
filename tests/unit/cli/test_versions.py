"""`pixelserve models promote`, `rollback` and `diff`: the stable version, and its effect on others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def repository(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """mnist-cnn with versions 1 and 2, which are the same."""
    shutil.copytree(root / "models" / "mnist-cnn", tmp_path / "models" / "mnist-cnn")
    shutil.copytree(root / "models" / "mnist-cnn" / "1", tmp_path / "models" / "mnist-cnn" / "2")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


def test_names_move_and_go_back(run: Run, repository: Path) -> None:
    assert run("models", "promote", "mnist-cnn", "1").out.splitlines() == [
        "mnist-cnn: stable is version 1 (was unset)",
        "mnist-cnn: previous is version 2 (was unset)",
    ]
    run("models", "promote", "mnist-cnn", "--to", "candidate", "--model-repository", repository)
    assert "mnist-cnn: stable is version 2 (was 1)\n" in run("models", "promote", "mnist-cnn").out
    gone_back = json.loads(run("models", "rollback", "mnist-cnn", "--json").out)
    assert (gone_back["before"]["stable"], gone_back["after"]["stable"]) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["promote", "none", "1"], 2, 'the repository has no model "none"', id="no such model"),
        pytest.param(["promote", "mnist-cnn", "9"], 2, "expected one of the versions on disk: 1, 2", id="no version"),
        pytest.param(["promote", "mnist-cnn"], 1, "has no candidate", id="no candidate"),
        pytest.param(["promote", "mnist-cnn", "0"], 2, "greater than or equal to 1", id="zero"),
        pytest.param(["promote", "mnist-cnn", "1", "--to", "best"], 2, "'best' is not one of", id="no such name"),
        pytest.param(["rollback", "mnist-cnn"], 1, "no previous version", id="nothing before"),
        pytest.param(["diff", "mnist-cnn", "1", "9"], 2, 'has no version "9"; it has 1, 2', id="nothing to compare"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, repository: Path, arguments: list[str], code: int, said: str) -> None:
    before = (repository / "mnist-cnn" / "config.pbtxt").read_text()
    ran = run("models", *arguments)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert (repository / "mnist-cnn" / "config.pbtxt").read_text() == before


def test_diff_shows_cards_side_by_side_and_whether_they_agree(run: Run, repository: Path) -> None:
    run("models", "promote", "mnist-cnn", "1")
    shown = run("models", "diff", "mnist-cnn")
    assert shown.code == 0
    titles, *lines, agreement = shown.out.splitlines()
    assert titles.split() == ["version", "1", "stable", "version", "2", "previous"]
    assert [line.split()[0] for line in lines].count("parity") == 2
    assert any(line.split() == ["parameters", "93,322", "93,322"] for line in lines)
    assert agreement.startswith("the same class for 16 of 16 golden samples (100.00%); outputs differ by at most 0")
    found = json.loads(run("models", "diff", "mnist-cnn", "--json").out)
    assert [side["aliases"] for side in found["versions"]] == [["stable"], ["previous"]]
    assert found["agreement"] == {"samples": 16, "same_labels": 16, "largest_difference": 0}
    assert found["versions"][0]["card"]["recipe"] == "mnist-cnn"


def test_diff_of_versions_without_evidence_says_what_it_can(run: Run, repository: Path) -> None:
    for name in ("card.json", "golden.npz"):
        for version in "12":
            (repository / "mnist-cnn" / version / name).unlink()
    shown = run("models", "diff", "mnist-cnn").out
    assert "card        none           none" in shown
    assert "not computed: neither version has a golden.npz" in shown
