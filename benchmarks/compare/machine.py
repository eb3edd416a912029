"""Facts about a comparison's machine, date and versions."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from . import peer
from .bodies import ROOT
from .load import h2load_version

PACKAGES = ("pixelserve", "onnxruntime", "grpcio", "h2corn", "protobuf", "numpy")


def facts(triton: peer.Installation | None, transport: str) -> dict[str, str]:
    """Returns the facts by name: date, machine, PixelServe's transport, versions of both sides."""
    theirs = peer.versions(triton) if triton else {}
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores; the server on one of them, the load on another",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "commit": _commit(),
        "transport": transport,
        **{name: _version(name) for name in PACKAGES},
        "load generator": h2load_version(),
        "Triton": ", ".join(f"{name} {version}" for name, version in theirs.items()) or "not measured",
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Returns the commit, marked if files differ from it; empty without git."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
