"""The result of `pip install`: the right packages under the right names, and a server that serves."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

import pixelserve
from deploy.release import __main__ as release

ROOT = Path(__file__).resolve().parent.parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_code_is_packaged() -> None:
    folders = PYPROJECT["tool"]["setuptools"]["package-dir"]
    on_disk = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in folders.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert on_disk == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_every_file_that_code_reads_is_packaged() -> None:
    setup = PYPROJECT["tool"]["setuptools"]
    packaged = {
        path
        for package, patterns in setup["package-data"].items()
        for pattern in patterns
        for path in folder_of(package).glob(pattern)
        if path.is_file()
    }
    on_disk = {
        path
        for folder in setup["package-dir"].values()
        for path in (ROOT / folder).rglob("*.*")
        # The stubs' type information is not used at run time.
        if path.suffix not in (".py", ".pyi", ".pyc")
    }
    assert on_disk == packaged


def folder_of(package: str) -> Path:
    top, *below = package.split(".")
    return ROOT.joinpath(PYPROJECT["tool"]["setuptools"]["package-dir"][top], *below)


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_requirements_are_pinned_and_hashed_and_name_no_index(path: Path) -> None:
    text = path.read_text()
    entries = re.sub(r"\\\n\s*", " ", text).splitlines()
    assert entries
    assert all(re.match(r"[\w.\[\]-]+==\S+ .*--hash=sha256:", entry) for entry in entries if entry.strip())
    assert "://" not in text
    assert "index" not in re.sub(r"[\w.-]+==", "", text)


def test_the_server_needs_no_tensorflow() -> None:
    assert "tensorflow" not in (ROOT / "requirements" / "server.txt").read_text()


def test_what_the_server_installs_is_what_it_is_tested_with() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert pins("server.txt") <= pins("dev.txt")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_release_passes_its_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make release-check`: builds, checks, installs into an empty environment and asks the server for a digit."""
    assert release.main(["--out", str(tmp_path)]) == 0
    release_name = f"pixelserve-{PYPROJECT['project']['version']}"
    assert {path.name for path in tmp_path.iterdir()} >= {
        *(f"{release_name}.tar.gz", f"{release_name}-py3-none-any.whl"),
        f"{release_name}-python{sys.version_info.major}.{sys.version_info.minor}.cdx.json",
    }
    assert "the digit 7: 7" in capsys.readouterr().out


def test_the_packages_and_the_changelogs_version_are_the_same() -> None:
    version = PYPROJECT["project"]["version"]
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert (pixelserve.__version__, newest) == (version, version)
