"""This machine's pip settings for builds: an index, a proxy and a CA certificate."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Others, such as constraints and folders of wheels, name files that builds cannot access.
_PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
CA_IN_BUILD = "/run/secrets/ca.pem"


def configured() -> dict[str, str]:
    """Returns pip's settings on this machine, by name; the environment overrides files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(listing: str) -> dict[str, str]:
    """Parses the output of `pip config list`."""
    lines = [line.partition("=") for line in listing.splitlines() if "=" in line]
    lines.sort(key=lambda line: line[0].startswith(":env:"))
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in lines}


def secrets(settings: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Writes pip's configuration for a build to a folder; returns the build's secret files, by id."""
    lines = [f"{name} = {value}" for name in _PASSED_ON if (value := _reachable(settings.get(name, "")))]
    found = {}
    if certificates := settings.get("cert"):
        found["ca"] = Path(certificates)
        lines.append(f"cert = {CA_IN_BUILD}")
    if lines:
        found["pip"] = folder / "pip.conf"
        found["pip"].write_text("\n".join(["[global]", *lines, ""]))
    return found


def _reachable(value: str) -> str:
    return " ".join(part for part in value.split() if not part.startswith("file:"))
