import errno
import fcntl
import os
from pathlib import Path

import pytest

from pixelserve_training.errors import TargetExistsError, WriteError
from pixelserve_training.staging import check_free, reason, staged


def test_nothing_shows_until_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with staged(target) as folder:
        (folder / "file").write_text("whole")
        assert not target.exists()
        assert folder.name.startswith(".")
    assert (target / "file").read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(TargetExistsError, match="not overwritten"), staged(tmp_path):
        pytest.fail("the block ran")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    with staged(tmp_path / "empty") as folder:
        (tmp_path / "empty").mkdir()
        (folder / "file").touch()
    assert (tmp_path / "empty" / "file").exists()


def test_a_target_that_appears_in_the_meantime_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def write_both() -> None:
        with staged(target) as folder:
            (folder / "late").touch()
            target.mkdir()
            (target / "early").touch()

    with pytest.raises(TargetExistsError):
        write_both()
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "early"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with staged(tmp_path / "target") as folder:
            (folder / "part").touch()
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="No space left on device; nothing was left behind"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_of_what_hdf5_says_the_systems_words_are_left() -> None:
    assert reason(OSError(28, "Can't write data (file = '/x', buf = 0x55ad)")) == "No space left on device"
    assert reason(OSError("Can't decrement id ref (errno = 28, error message = '…')")) == "No space left on device"
    assert reason(OSError("something else")) == "something else"


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"), staged(tmp_path / "file" / "target"):
        pytest.fail("the block ran")


def test_a_file_in_the_way_is_found_before_any_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="is not a folder"):
        check_free(tmp_path / "file" / "run")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left, others = tmp_path / ".target.0123abcd", [tmp_path / ".target", tmp_path / ".other.0123abcd"]
    for folder in (left, *others):
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / ".target.89abcdef").symlink_to(others[0])
    with staged(tmp_path / "target"):
        assert not left.exists()
    assert all((folder / "file").exists() for folder in others)


def test_a_folder_that_another_process_is_writing_stays(tmp_path: Path) -> None:
    """Timeline: 1. a process begins to write; 2. another one writes the same target; 3. the first one is too late, but
    its files were there to the end."""
    target = tmp_path / "target"

    def write_both() -> None:
        with staged(target) as slow:
            (slow / "slow").touch()
            with staged(target) as quick:
                (quick / "quick").touch()
            assert (slow / "slow").exists()

    with pytest.raises(TargetExistsError):
        write_both()
    assert [path.name for path in target.iterdir()] == ["quick"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_without_locks_nothing_is_taken_for_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("pixelserve_training.staging.fcntl.flock", refuse)
    (tmp_path / ".target.0123abcd").mkdir()
    with staged(tmp_path / "target") as folder:
        (folder / "file").touch()
    assert (tmp_path / ".target.0123abcd").exists()
    assert (tmp_path / "target" / "file").exists()


def test_a_folder_that_is_taken_for_abandoned_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. a folder is made; 2. another process removes it before it is locked; 3. a second one is made."""
    original = fcntl.flock
    taken: list[Path] = []

    def overtaken(descriptor: int, operation: int) -> None:
        original(descriptor, operation)
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].rmdir()

    monkeypatch.setattr("pixelserve_training.staging.fcntl.flock", overtaken)
    with staged(tmp_path / "target") as folder:
        (folder / "file").touch()
    assert taken
    assert (tmp_path / "target" / "file").exists()
