"""Checks the Dockerfiles with hadolint."""

import json
from pathlib import Path

from . import tools
from .check import CheckError, Result


def check(folder: Path) -> Result:
    """Lints each Dockerfile in a folder."""
    files = sorted(file for file in folder.rglob("*Dockerfile*") if file.suffix != ".dockerignore")
    if not files:
        return Result(f"no Dockerfile in {folder.name}/", (f"{folder} has no Dockerfile",))
    done = tools.run("hadolint", "--no-color", "--format", "json", *files)
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise CheckError(f"hadolint's report could not be read: {done.stderr or done.stdout}") from error
    lines = [f"{Path(one['file']).name}:{one['line']}: {one['code']} {one['message']}" for one in found]
    return Result(f"hadolint, {len(files)} Dockerfiles", tuple(lines))
