"""Reads the Helm chart, so the drill runs its settings."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".venv" / "deploy" / "bin"
_CHART = ROOT / "deploy" / "helm" / "pixelserve"


class ToolError(Exception):
    """A program that the drill needs is missing or fails; the message says what to do."""


def program(name: str) -> str:
    """Returns the path of a program.

    Raises:
        ToolError: it is not installed.
    """
    path = shutil.which(name, path=str(PROGRAMS)) or shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is missing; run `make .venv/stamps/deploy`")
    return path


@cache
def times_s() -> tuple[float, float]:
    """Returns the settle and grace times of the chart's pods, in seconds."""
    server = yaml.safe_load((_CHART / "values.yaml").read_text())["server"]
    return float(server["settleSeconds"]), float(server["graceSeconds"])


def envoy_config() -> dict[str, Any]:
    """Returns the chart's configuration of Envoy.

    Raises:
        ToolError: helm is missing, or does not render the chart.
    """
    command = [program("helm"), "template", "drill", str(_CHART), "--set", "envoy.enabled=true"]
    rendered = subprocess.run([*command, "--show-only", "templates/envoy-config.yaml"], capture_output=True, text=True)
    if rendered.returncode:
        raise ToolError(f"helm cannot render {_CHART}: {rendered.stderr.strip()}")
    config = yaml.safe_load(yaml.safe_load(rendered.stdout)["data"]["envoy.yaml"])
    # Without YAML aliases, because the caller changes parts of it.
    copy: dict[str, Any] = json.loads(json.dumps(config))
    return copy
