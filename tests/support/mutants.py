"""Breaks promises one by one in a copy of the project, and checks that the tests named beside each notice."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
LIST = Path(__file__).with_suffix(".yaml")
_PACKAGES = {"pixelserve": "pixelserve", "pixelserve_server": "server", "pixelserve_training": "training"}
_NEEDED = (*_PACKAGES.values(), "benchmarks", "deploy", "docs", "models", "proto", "tests", "pyproject.toml")
# Pytest's own codes.
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """A change of one line that breaks a promise."""

    name: str
    """What the broken code does."""
    file: str
    """Path below the project's root."""
    old: str
    """Text that the file has once."""
    new: str
    """What takes its place."""
    tests: str
    """Paths of tests that must fail, separated by spaces."""


def read() -> list[Mutant]:
    """Returns the listed mutants."""
    return [Mutant(**each) for each in yaml.safe_load(LIST.read_text())]


def _copy(to: Path) -> None:
    for name in _NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)
    (to / ".venv").symlink_to(ROOT / ".venv")
    # Found before the installed packages, which are those of the original.
    (to / "packages").mkdir()
    for package, folder in _PACKAGES.items():
        (to / "packages" / package).symlink_to(to / folder)


def _test(copy: Path, tests: str) -> int:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(copy / "packages")}
    return subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL).returncode


def _notice(copy: Path, mutant: Mutant) -> bool:
    path = copy / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        code = _test(copy, mutant.tests)
    finally:
        path.write_text(text)
    if code not in (_PASSED, _FAILED):
        sys.exit(f"{mutant.name}: pytest ended with {code}")
    return code == _FAILED


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name or file contains this")
    only = parser.parse_args().only
    mutants = [mutant for mutant in read() if only in mutant.name or only in mutant.file]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _copy(copy)
        # Tests that fail anyway would notice every mutant.
        if _test(copy, " ".join(sorted({path for mutant in mutants for path in mutant.tests.split()}))) != _PASSED:
            sys.exit("the tests do not pass on the code as it is")
        survivors = []
        for mutant in mutants:
            is_noticed = _notice(copy, mutant)
            print(f"{'killed  ' if is_noticed else 'SURVIVED'}  {mutant.file}: {mutant.name}", flush=True)
            survivors += [] if is_noticed else [mutant]
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
