"""What a user gets with `pip install`: the right packages under the right names, and a server that serves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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
        # The stubs' type information is read by nobody at run time.
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
@pytest.mark.timeout(240)
def test_the_wheel_installs_into_an_empty_environment_and_serves(tmp_path: Path) -> None:
    """Builds the wheel, installs it with [server] at the pinned versions, and asks the installed server for a digit."""
    wheel = build_wheel(tmp_path)
    assert {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        *("pixelserve", "pixelserve_server", "pixelserve_training"),
        f"pixelserve-{PYPROJECT['project']['version']}.dist-info",
    }
    data = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "server").rglob("*.*") if "__pycache__" not in path.parts
    }
    assert {f"pixelserve_{name}" for name in data} <= set(zipfile.ZipFile(wheel).namelist())
    python = install(wheel, tmp_path)
    assert not list((tmp_path / "env" / "lib").glob("*/site-packages/tensorflow"))
    serve_and_stop(python.parent / "pixelserve", tmp_path)


def build_wheel(tmp_path: Path) -> Path:
    # setuptools would leave its build folder in the project.
    source = tmp_path / "source"
    copy_sources(source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    return next(tmp_path.glob("*.whl"))


def copy_sources(target: Path) -> None:
    for name in ("pixelserve", "server", "training"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)


def install(wheel: Path, tmp_path: Path) -> Path:
    """Installs the wheel with [server] at the pinned versions; returns the new environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    # A wheel of our own has no hash to be held to, so the pins are used as constraints.
    pinned = (ROOT / "requirements" / "server.txt").read_text()
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(re.sub(r" \\\n.*?(?=\n\S|\Z)", "", pinned, flags=re.DOTALL))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", constraints, f"pixelserve[server] @ {wheel.as_uri()}"], check=True)
    return python


def serve_and_stop(command: Path, cwd: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    arguments = ["serve", "--model-repository", ROOT / "models", "--http-port", "0", "--grpc-port", "0"]
    arguments += ["--metrics-port", "0"]
    process = subprocess.Popen([command, *arguments], cwd=cwd, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stderr is not None
        events = (json.loads(line) for line in process.stderr)
        serving = next(event for event in events if event["event"] == "serving")
        assert serving["ready"]
        assert "mnist-cnn/1" in serving["models"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
