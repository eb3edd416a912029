"""Triton from nvidia-pytriton: installed into its own environment, and started with the same model."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .bodies import MODEL, MODEL_FILE, ROOT
from .cores import Cores
from .errors import MissingToolError
from .process import Server, running

REQUIREMENTS = ROOT / "requirements" / "triton.txt"
READY_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Installation:
    """An environment with Triton."""

    folder: Path
    """The virtual environment."""

    @property
    def site_packages(self) -> Path:
        """The folder of its packages."""
        return self.folder / "lib" / f"python{_minor_version()}" / "site-packages"

    @property
    def triton(self) -> Path:
        """Triton's files in the wheel."""
        return self.site_packages / "pytriton" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """Returns variables that point the server to its libraries and its Python backend to this environment."""
        libraries = [str(sysconfig.get_config_var("LIBDIR")), str(self.site_packages / "nvidia_pytriton.libs")]
        return {
            **os.environ,
            "ORT_DISABLE_TELEMETRY": "1",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(self.site_packages),
        }


def _minor_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def cache_folder() -> Path:
    """Returns the cache for downloads: pixelserve in XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelserve"


def install() -> Installation:
    """Returns an environment with the pinned Triton; creates it if the cache has none for these pins and this Python.

    Raises:
        MissingToolError: there is no such package for this machine, or the download failed.
    """
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"triton-{pins}-python{_minor_version()}"
    # Written last, so an interrupted installation does not count.
    stamp = folder / "installed"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run("make an environment for Triton", [sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run("install Triton", [*pip, "--require-hashes", "--requirement", str(REQUIREMENTS)])
        stamp.touch()
    return Installation(folder)


def _run(what: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MissingToolError(f"could not {what} (--peer none runs without it):\n{done.stderr.strip()}")


@contextmanager
def serve(name: str, cores: Cores, installation: Installation) -> Iterator[Server]:
    """Runs tritonserver with the committed model until the block ends."""
    grpc_port, http_port, metrics_port = _free_ports(3)
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-triton-") as place:
        backends, repository = Path(place) / "backends", Path(place) / "repository"
        _write_backends(installation, backends)
        _write_repository(repository)
        command = [*cores.pin_server(), str(installation.triton / "bin" / "tritonserver")]
        command += ["--model-repository", str(repository), "--backend-directory", str(backends)]
        command += ["--grpc-address", "127.0.0.1", "--http-address", "127.0.0.1", "--grpc-port", str(grpc_port)]
        command += ["--http-port", str(http_port), "--metrics-port", str(metrics_port)]

        def find_port(said: str) -> int | None:
            return grpc_port if _is_ready(http_port) else None

        with running(name, command, find_port, installation.environment()) as server:
            yield server


def _write_backends(installation: Installation, folder: Path) -> None:
    """Copies the Python backend with the stub for this Python, where it looks for one."""
    stub = installation.triton / "python_backend_stubs" / _minor_version() / "triton_python_backend_stub"
    if not stub.exists():
        raise MissingToolError(f"this Triton's Python backend does not support Python {_minor_version()}: no {stub}")
    shutil.copytree(installation.triton / "backends" / "python", folder / "python")
    shutil.copy(stub, folder / "python")


def _write_repository(folder: Path) -> None:
    ours = Path(__file__).with_name("triton")
    version = folder / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copy(ours / "config.pbtxt", folder / MODEL)
    shutil.copy(ours / "model.py", version)
    shutil.copy(MODEL_FILE, version)


def _free_ports(count: int) -> list[int]:
    """Returns free ports; Triton does not report the port that it chose."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def _is_ready(http_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/v2/health/ready", timeout=READY_TIMEOUT_S) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def versions(installation: Installation) -> dict[str, str]:
    """Returns the versions of the peer's software."""
    names = ["nvidia-pytriton", "onnxruntime", "numpy"]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    python = str(installation.folder / "bin" / "python")
    said = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(said))
