"""Installs the wheel in an empty environment, starts its server and classifies a digit."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..results import Result
from .archives import PROJECT, ROOT

_TIMEOUT_S = 120
# `pip inspect` does not show License-Expression before pip 25.
_LIST = """
import json
from importlib.metadata import distributions
names = {"name": "Name", "version": "Version", "license": "License", "license_expression": "License-Expression"}
print(json.dumps([
    {**{key: each.metadata[name] for key, name in names.items()}, "classifier": each.metadata.get_all("Classifier")}
    for each in distributions()
]))
"""
_DIGIT = ROOT / "examples" / "mnist" / "digit-7-test-00000.png"


def find(version: str) -> str | None:
    """Returns the command of a Python that can create environments, such as python3.12, or None."""
    command = shutil.which(f"python{version}")
    if command is None:
        return None
    # Version managers provide commands for versions that are not installed.
    done = subprocess.run([command, "-c", "import ensurepip, venv"], capture_output=True, timeout=_TIMEOUT_S)
    return None if done.returncode else command


def install(python: str, wheel: Path, folder: Path) -> Path:
    """Installs a wheel with [server] at the pinned versions into a new environment; returns its bin/."""
    subprocess.run([python, "-m", "venv", folder], check=True, timeout=_TIMEOUT_S)
    constraints = folder / "constraints.txt"
    # Without hashes: the wheel has none, and pip requires them for all or none.
    pinned = (ROOT / "requirements" / "server.txt").read_text()
    constraints.write_text(re.sub(r" \\\n.*?(?=\n\S|\Z)", "", pinned, flags=re.DOTALL))
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    requirement = f"{PROJECT['project']['name']}[server] @ {wheel.resolve().as_uri()}"
    subprocess.run([*pip, "-c", constraints, requirement], check=True, timeout=10 * _TIMEOUT_S)
    return folder / "bin"


def check(commands: Path, version: str) -> Iterator[Result]:
    """Runs the installed commands, and a server with the committed models."""
    name, release = f"Python {version}", PROJECT["project"]["version"]
    said = _run(commands, "--version").strip()
    yield Result(f"{name}, --version", release, said, said == release)
    has_help = "--model-repository" in _run(commands, "serve", "--help")
    yield Result(f"{name}, serve --help", "the settings", "the settings" if has_help else "something else", has_help)
    extra = sorted({"keras", "pytest", "tensorflow"} & {each["name"] for each in _metadata(commands)})
    yield Result(f"{name}, no training or development tools", "none", ", ".join(extra) or "none", not extra)
    with _server(commands) as (process, fields):
        answer = _run(
            *(commands, "classify", str(_DIGIT), "--model", "mnist-cnn", "--address", fields["grpc"], "--json")
        )
        label = json.loads(answer)["classes"][0]["label"]
        yield Result(f"{name}, the digit 7", "7", str(label), str(label) == "7")
    code = process.returncode
    yield Result(f"{name}, the server's exit code", "0", str(code), code == 0)


def distributions(commands: Path) -> list[dict[str, Any]]:
    """Returns the metadata of all installed distributions, except pip and its own."""
    return [each for each in _metadata(commands) if each["name"] not in ("pip", "setuptools")]


def _metadata(commands: Path) -> list[dict[str, Any]]:
    shown = subprocess.run(
        [commands / "python", "-c", _LIST], check=True, capture_output=True, env=_environment(), timeout=_TIMEOUT_S
    )
    found: list[dict[str, Any]] = json.loads(shown.stdout)
    return found


def _run(commands: Path, *arguments: str) -> str:
    done = subprocess.run(
        [commands / "pixelserve", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env=_environment(),
        cwd=commands,
    )
    return done.stdout


def _environment() -> dict[str, str]:
    # The checkout must not be importable, and the caller's settings must not apply.
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIXELSERVE_"))}


@contextmanager
def _server(commands: Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    ports = [part for port in ("http", "grpc", "metrics") for part in (f"--{port}-port", "0")]
    process = subprocess.Popen(
        [commands / "pixelserve", "serve", "--model-repository", ROOT / "models", *ports],
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        cwd=commands,
    )
    try:
        events = (json.loads(line) for line in process.stderr or () if line.startswith("{"))
        yield process, next(event for event in events if event["event"] == "serving")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_TIMEOUT_S)
