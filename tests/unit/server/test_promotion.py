"""Promotion and rollback of a candidate change only the aliases in config.pbtxt."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelserve_server.errors import RepositoryError
from pixelserve_server.tools.promotion import promote, rollback


@pytest.fixture
def config(tmp_path: Path, model_writer: Callable[..., Path]) -> Path:
    """The config.pbtxt of model `a` in `tmp_path`, which has versions 1, 2 and 3."""
    for version in (1, 2, 3):
        model_writer(tmp_path / "a" / str(version) / "model.onnx")
    path = tmp_path / "a" / "config.pbtxt"
    path.write_text("# Written by hand.\nmax_batch_size: 8\nversion_policy { specific { versions: [1, 2] } }\n")
    return path


def test_a_candidate_becomes_stable_and_goes_back(tmp_path: Path, config: Path) -> None:
    assert promote(tmp_path, "a", 1).after == {"stable": 1, "previous": 2}
    assert promote(tmp_path, "a", 2, "candidate").after == {"stable": 1, "candidate": 2, "previous": 2}
    move = promote(tmp_path, "a")
    assert (move.before["stable"], move.after) == (1, {"stable": 2, "candidate": 2, "previous": 1})
    assert rollback(tmp_path, "a").after == {"stable": 1, "candidate": 2, "previous": 2}
    assert rollback(tmp_path, "a").after == {"stable": 2, "candidate": 2, "previous": 1}
    text = config.read_text()
    assert text.startswith("# Written by hand.\nmax_batch_size: 8\nversion_policy { specific { versions: [1, 2] } }\n")
    assert text.count("parameters") == 3


def test_the_candidate_is_the_highest_version_where_none_is_said(tmp_path: Path, config: Path) -> None:
    assert promote(tmp_path, "a", alias="candidate").after == {"candidate": 3}


def test_promoting_the_stable_version_changes_nothing(tmp_path: Path, config: Path) -> None:
    promote(tmp_path, "a", 1)
    before = config.read_text()
    move = promote(tmp_path, "a", 1)
    assert move.before == move.after
    assert config.read_text() == before


@pytest.mark.parametrize(
    "written",
    [
        'parameters { key: "stable" value { string_value: "1" } }',
        "parameters: { key: 'stable', value: { string_value: '1' } }",
        'parameters [\n  {\n    key: "stable"\n    value: {\n      string_value: "1"\n    }\n  }\n]',
    ],
)
def test_a_name_is_moved_where_it_stands(tmp_path: Path, config: Path, written: str) -> None:
    text = f"{config.read_text()}{written}\n"
    config.write_text(text)
    assert promote(tmp_path, "a", 2).after == {"stable": 2, "previous": 1}
    assert config.read_text().startswith(text.replace('1"', '2"').replace("1'", "2'"))
    assert promote(tmp_path, "a", 2).before == {"stable": 2, "previous": 1}


@pytest.mark.parametrize(
    "written",
    [
        pytest.param('parameters { key: "stable"  # as of May\n value { string_value: "1" } }', id="a comment within"),
        pytest.param('parameters { value { string_value: "1" } key: "stable" }', id="the value first"),
    ],
)
def test_a_name_written_in_another_way_is_replaced_by_what_comes_after_it(
    tmp_path: Path, config: Path, written: str
) -> None:
    config.write_text(f"{config.read_text()}{written}\n")
    assert promote(tmp_path, "a", 2).after == {"stable": 2, "previous": 1}
    assert written in config.read_text()
    assert promote(tmp_path, "a", 2).before == {"stable": 2, "previous": 1}


def test_what_stands_in_a_comment_is_not_taken_for_a_name(tmp_path: Path, config: Path) -> None:
    with config.open("a") as file:
        file.write('# parameters { key: "stable" value { string_value: "1" } }\n')
    with pytest.raises(RepositoryError, match="by hand"):
        promote(tmp_path, "a", 2)


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        pytest.param("none", 1, 'no model "none"', id="unknown model"),
        pytest.param("..", 1, 'no model ".."', id="out of the repository"),
        pytest.param("a", 4, "4/model.onnx is missing; expected one of the versions on disk: 1, 2, 3", id="version"),
        pytest.param("a", None, "has no candidate; say which of its versions is to be stable: 1, 2, 3", id="none"),
    ],
)
def test_what_cannot_be_promoted(tmp_path: Path, config: Path, model: str, version: int | None, said: str) -> None:
    before = config.read_text()
    with pytest.raises(RepositoryError, match=said):
        promote(tmp_path, model, version)
    assert config.read_text() == before


def test_nothing_to_go_back_to(tmp_path: Path, config: Path) -> None:
    with pytest.raises(RepositoryError, match="no previous version to go back to"):
        rollback(tmp_path, "a")


def test_the_error_of_a_model_without_a_config_says_what_to_write(tmp_path: Path, config: Path) -> None:
    config.unlink()
    with pytest.raises(RepositoryError, match=r"write it first.*max_batch_size: 64 dynamic_batching"):
        promote(tmp_path, "a", 1)


def test_the_file_behind_a_link_is_changed_and_keeps_its_mode(tmp_path: Path, config: Path) -> None:
    target = tmp_path / "shared.pbtxt"
    config.rename(target)
    target.chmod(0o640)
    config.symlink_to(target)
    promote(tmp_path, "a", 1)
    assert config.is_symlink()
    assert "stable" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_disk_that_does_not_take_it_leaves_the_file_alone(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config.read_text()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(RepositoryError, match="No space left on device; it is as it was"):
        promote(tmp_path, "a", 1)
    assert config.read_text() == before
    assert [path.name for path in config.parent.iterdir() if path.name.startswith(".")] == []
