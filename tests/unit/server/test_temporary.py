"""A server's temporary files are removed with it, or by the next one."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pixelserve_server.repository import temporary
from pixelserve_server.repository.temporary import TemporaryFolder, remove_abandoned

# Makes a folder, fills it, and says so; then it waits to be killed.
SERVER = """
import sys
from pixelserve_server.repository.temporary import TemporaryFolder
folder = TemporaryFolder.make()
(folder.path / "1").mkdir()
(folder.path / "1" / "half").write_bytes(b"written")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_server_left_is_removed_and_a_living_ones_stays(directory: Path) -> None:
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory)},
        )
        for _ in range(2)
    ]
    try:
        folders = [Path(((server.stdout and server.stdout.readline()) or "").strip()) for server in servers]
        assert remove_abandoned() == 0
        servers[0].send_signal(signal.SIGKILL)
        servers[0].wait()
        assert all(folder.is_dir() for folder in folders)
        assert remove_abandoned() == 1
        assert [folder.is_dir() for folder in folders] == [False, True]
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_a_folder_of_this_server_stays_until_it_is_removed() -> None:
    folder = TemporaryFolder.make()
    assert remove_abandoned() == 0
    assert folder.path.is_dir()
    folder.remove()
    assert not folder.path.exists()


def test_a_server_that_was_killed_before_it_locked_its_folder_leaves_nothing(directory: Path) -> None:
    (directory / "pixelserve-files-new").mkdir()
    assert remove_abandoned() == 1
    assert list(directory.iterdir()) == []


def test_a_folder_that_another_server_takes_for_abandoned_is_created_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. a server makes its folder; 2. another one starts, and removes it; 3. the first comes to lock it."""
    lock, removed = temporary._lock, []

    def lock_late(folder: Path) -> int | None:
        if not removed:
            removed.append(folder)
            monkeypatch.setattr(temporary, "_lock", lock)
            assert remove_abandoned() == 1
        return lock(folder)

    monkeypatch.setattr(temporary, "_lock", lock_late)
    folder = TemporaryFolder.make()
    assert folder.path not in removed
    assert remove_abandoned() == 0
    folder.remove()


def test_a_lock_on_a_deleted_file_does_not_count(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. a server opens its lock; 2. another one removes the folder; 3. the first locks a deleted file."""
    flock = temporary.fcntl.flock

    def lock_late(descriptor: int, how: int) -> None:
        (directory / "folder" / ".lock").unlink()
        flock(descriptor, how)

    (directory / "folder").mkdir()
    monkeypatch.setattr(temporary.fcntl, "flock", lock_late)
    assert temporary._lock(directory / "folder") is None


def test_links_and_files_of_that_name_are_left_alone(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").touch()
    (directory / "pixelserve-files-link").symlink_to(elsewhere)
    (directory / "pixelserve-files-text").touch()
    assert remove_abandoned() == 0
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_folders_of_other_users_are_left_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "pixelserve-files-new").mkdir()
    monkeypatch.setattr(temporary.os, "geteuid", lambda: os.getuid() + 1)
    assert remove_abandoned() == 0


def test_without_a_directory_for_temporary_files_there_is_nothing_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    assert remove_abandoned() == 0
