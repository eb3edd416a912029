"""The README's install commands, and its examples for a running server, unchanged."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).splitlines()
(PYTHON,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# What tells a user to install something: pages, and the messages in the code.
TEXTS = {
    path: path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "pixelserve/**/*.py", "server/**/*.py", "training/**/*.py")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
}

pytestmark = pytest.mark.slow


def test_no_page_and_no_message_installs_a_release_that_does_not_exist() -> None:
    found = [path for path, text in TEXTS.items() if re.search(r"pip install[^\n`]*[ '\"]pixelserve[\[' `\"\n]", text)]
    assert not found


def test_every_install_line_names_extras_that_exist() -> None:
    named = {
        extra
        for text in TEXTS.values()
        for extras in re.findall(r"pip install -e '\.\[([^\]{}]+)\]'", text)
        for extra in extras.split(",")
    }
    assert {"server", "training"} <= named <= set(EXTRAS)


def test_the_table_has_the_size_of_every_extra_for_users() -> None:
    rows = dict(re.findall(r"^\| `?([a-z0-9-]+)`? \|.*(\| [\d,]+ MB \| [\d,]+ MB \|)$", README, re.MULTILINE))
    assert set(rows) == {"none", *EXTRAS} - {"server-common", "bench", "dev"}


def test_the_install_lines_install_this_project(tmp_path: Path) -> None:
    for folder in PYPROJECT["tool"]["setuptools"]["package-dir"].values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # The page's licences are in the folders.
    for name in ("pyproject.toml", PYPROJECT["project"]["readme"], "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    lines = re.findall(r"^    pip (install -e .*)$", README, re.MULTILINE)
    assert lines
    for line in lines:
        # Whether the libraries can be downloaded is not the README's: only the project itself is installed.
        pip = [sys.executable, "-m", "pip", *shlex.split(line), "--dry-run", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*pip, "--no-index"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (line, done.stderr)
        assert f"Would install pixelserve-{PYPROJECT['project']['version']}" in done.stdout


def test_the_command_is_beside_the_environments_python() -> None:
    command = Path(sys.executable).parent / "pixelserve"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == PYPROJECT["project"]["version"]


def test_the_python_example_says_what_is_on_the_picture(server: Any) -> None:
    code = PYTHON.replace("127.0.0.1:8001", server.grpc)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "7\n", done.stderr


def test_the_commands_run(server: Any) -> None:
    assert {line.split()[0] for line in COMMANDS} == {"pixelserve", "curl"}
    for line in COMMANDS:
        program, *words = shlex.split(line.replace("http://127.0.0.1:8000", server.http))
        ours = [sys.executable, "-m", "pixelserve", *words, "--address", server.grpc]
        command = ours if program == "pixelserve" else [program, "--fail", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
