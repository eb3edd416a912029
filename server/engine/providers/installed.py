"""Checks that the installed ONNX Runtime supports the requested device."""

import importlib.metadata

from ...errors import StartupError
from .base import SessionOptions
from .choice import PROVIDERS, asked_by, suits

_CLONE = "in PixelServe's clone: pip install -e"


def check_runtime(device: str, *, require_gpu: bool = False) -> None:
    """Checks that ONNX Runtime is installed once and supports `device` (auto or a provider's key).

    Raises:
        StartupError: two of its packages are installed, it lacks the selected provider, or a GPU is required but the
            selected provider does not use one.
    """
    _check_packages()
    allowed = [each for each in PROVIDERS if suits(each, device) and (each.on_gpu or not require_gpu)]
    if not allowed:
        raise StartupError(f"--require-gpu and --device {device} contradict each other; omit one")
    asked, remedy = asked_by(SessionOptions(device=device, require_gpu=require_gpu))
    if not any(each.is_available() for each in allowed):
        missing = allowed[0]
        raise StartupError(
            f"{asked}: this ONNX Runtime has no {missing.title} provider; "
            f"run: pip uninstall -y onnxruntime, then {_CLONE} '.[{missing.extra}]'; or use {remedy}"
        )


def _check_packages() -> None:
    # All of ONNX Runtime's packages install the same folder.
    installed = {each.distribution: each.extra for each in PROVIDERS if _is_installed(each.distribution)}
    if len(installed) > 1:
        names = sorted(installed)
        commands = " or ".join(f"pip install -e '.[{installed[name]}]'" for name in names)
        raise StartupError(
            f"{' and '.join(names)} are both installed and overwrite each other's files; "
            f"remove both with: pip uninstall -y {' '.join(names)}, then install one, in PixelServe's clone: {commands}"
        )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
