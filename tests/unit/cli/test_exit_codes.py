"""Exit codes for wrong arguments, and for output that cannot be written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 30
CLASSIFY = ("classify", "{folder}", "--model", "digits")
# Their exit codes without the error.
PRINTING = {
    "a list": (("models", "list"), 0),
    "rows": (CLASSIFY, 10),
    "JSON lines": ((*CLASSIFY, "--json"), 10),
    "a word": (("health",), 0),
}


def started(fake: Any, folder: Path, arguments: tuple[str, ...], stdout: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pixelserve", *(each.format(folder=folder) for each in arguments)]
    return subprocess.run(
        [*command, "--address", fake.address],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=WAIT_S,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), PRINTING.values(), ids=PRINTING)
def test_a_reader_of_stdout_that_has_ended_ends_a_command_silently(
    fake: Any, folder: Path, arguments: tuple[str, ...], code: int
) -> None:
    assert started(fake, folder, arguments, subprocess.DEVNULL).returncode == code
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = started(fake, folder, arguments, writing)
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert not any(word in done.stderr for word in ("Traceback", "Broken", "Exception", "pixelserve:"))


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "_"), PRINTING.values(), ids=PRINTING)
def test_a_full_disk_under_stdout_is_one_sentence(fake: Any, folder: Path, arguments: tuple[str, ...], _: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = started(fake, folder, arguments, full.fileno())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "pixelserve: No space left on device"
    assert "Traceback" not in done.stderr


WRONG_ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "a file that does not exist": (("classify", "{folder}/typo.png", "--model", "digits"), "typo.png' does not exist"),
    "a folder without pictures": (
        ("classify", "{empty}", "--model", "digits"),
        "no pictures in {empty}; expected",
    ),
    "a CSV file in no folder": (
        (*CLASSIFY, "--csv", "{folder}/none/a.csv"),
        "No such file or directory; choose a file",
    ),
    "a folder as the CSV file": ((*CLASSIFY, "--csv", "{folder}"), "exists and is not a regular file"),
    "a repository that does not exist": (("doctor", "{folder}/typo"), "typo' does not exist"),
    "a file as the repository": (("doctor", "{folder}/a.png"), "is a file"),
    "a wrong value of a server's setting": (
        ("serve", "--model-repository", "{empty}", "--grpc-port", "many"),
        "--grpc-port (or PIXELSERVE_GRPC_PORT) is 'many'",
    ),
    "a configuration file that does not exist": (("serve", "--config", "{folder}/typo.toml"), "there is no such file"),
    "a file below a file as the CSV file": (
        (*CLASSIFY, "--csv", "{folder}/a.png/x.csv"),
        "Not a directory; choose a file",
    ),
    "a configuration file of no known kind": (("serve", "--config", "{folder}/a.png"), "expected a .toml"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_a_wrong_argument_exits_with_2_and_is_named(
    ask: Callable[..., Any], folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = ask(*(each.format(folder=folder, empty=empty) for each in arguments))
    assert ran.code == 2
    assert said.format(empty=empty) in " ".join(ran.err.split())
    assert ran.out == ""


def test_a_folder_that_cannot_be_read_is_named_with_its_remedy(
    ask: Callable[..., Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def deny(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # The administrator, as whom tests may run, may read everything.
    monkeypatch.setattr(os, "scandir", deny)
    ran = ask("classify", folder, "--model", "digits", "--csv", tmp_path / "out.csv")
    assert ran.code == 1
    assert ran.err == f"pixelserve: {folder / 'b'} cannot be read: Permission denied; check its permissions\n"
    assert not (tmp_path / "out.csv").exists()


def test_what_a_folder_holds_beside_pictures_is_said(ask: Callable[..., Any], fake: Any, folder: Path) -> None:
    (folder / "b" / "d.webp").unlink()
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    (folder / "IMG_1.HEIC").touch()
    ran = ask("classify", folder, "--model", "digits", "--json")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 3
    assert "skipped: 2 without a picture's extension (.heic, .txt); 1 hidden or system files" in ran.err
