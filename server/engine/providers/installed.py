"""Checks that the installed ONNX Runtime supports the requested device."""

import importlib.metadata

from ...errors import MissingLibraryError, StartupError
from .base import DEFAULT_ENGINES, SessionOptions
from .choice import PROVIDERS, asked_by, suits

_ENGINE = DEFAULT_ENGINES[0].engine
_CLONE = "in PixelServe's clone: pip install -e"


def check_runtime(device: str, *, require_gpu: bool = False, engine: str = _ENGINE) -> None:
    """Checks that the engine is installed, and that ONNX Runtime is installed once and supports `device`.

    Args:
        device: auto or a provider's device.
        require_gpu: whether a GPU is required.
        engine: the engine of all models; auto, if models may have others, needs none but ONNX Runtime.

    Raises:
        StartupError: two of ONNX Runtime's packages are installed, it lacks the selected provider, or a GPU is required
            but the selected provider does not use one.
        MissingLibraryError: the engine is not installed.
    """
    _check_packages()
    for each in PROVIDERS:
        if each.engine == engine and engine != _ENGINE and not each.is_available():
            raise MissingLibraryError(
                f"--engine {engine} needs {each.distribution}; {_CLONE} '.[{each.extra}]', or use --engine {_ENGINE}"
            )
    allowed = [each for each in PROVIDERS if suits(each, device, _ENGINE) and (each.on_gpu or not require_gpu)]
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
    packages = {each.distribution: each.extra for each in PROVIDERS if each.engine == _ENGINE}
    installed = {distribution: extra for distribution, extra in packages.items() if _is_installed(distribution)}
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
