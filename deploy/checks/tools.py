"""Finds and runs the programs that the checks need."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .check import ROOT, CheckError

VENV = ROOT / ".venv"
TIMEOUT_S = 240
# The source of each program: folders of this repository that make fills, or a Debian package.
FOLDERS = (VENV / "deploy" / "bin", VENV / "checkov" / "bin")
PACKAGES = {"promtool": "prometheus", "node": "nodejs"}


def find(program: str) -> str:
    """Returns the path of a program.

    Raises:
        CheckError: it is not installed.
    """
    search = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", "")])
    if found := shutil.which(program, path=search):
        return found
    source = (
        f"install it (Debian: apt install {PACKAGES[program]})" if program in PACKAGES else "run: make deploy-check"
    )
    raise CheckError(f"{program} is missing; {source}")


def run(
    program: str, *arguments: str | Path, stdin: str | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program and returns its output, for any exit code.

    Raises:
        CheckError: the program is missing, or times out.
    """
    command: Sequence[str | Path] = [find(program), *arguments]
    try:
        return subprocess.run(command, input=stdin, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"{program} did not end within {TIMEOUT_S} s") from error
