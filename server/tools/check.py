"""Loads models without serving them, to report what a server would."""

from collections.abc import Iterable
from pathlib import Path

from .. import factories
from ..engine.providers import check_runtime
from ..failures import FailureLog
from ..observe.statistics import VersionStats
from ..repository.layout import ModelFolder
from ..repository.loader import Loader
from ..settings import Settings
from . import doctor
from .findings import Report


def check_model(folder: Path, versions: Iterable[int]) -> dict[int, str]:
    """Loads versions of a model as a server does, one after another on the CPU, and frees them.

    Args:
        folder: the model's folder, named after the model.
        versions: the versions, regardless of the version policy.

    Returns:
        By version, one sentence on its evidence and whether it held.

    Raises:
        StartupError: ONNX Runtime is installed twice.
        RepositoryError: a version cannot be served; the message names the file and the remedy.
    """
    settings = Settings.model_construct(model_repository=folder.parent, device="cpu")
    check_runtime(settings.device)
    found: dict[int, str] = {}
    for version in versions:
        loaded = _loader(settings).load(ModelFolder(folder), version)
        loaded.batcher.drain()
        found[version] = loaded.evidence.summary
    return found


def diagnose(settings: Settings, *, quick: bool) -> Report:
    """Returns the problems of the repository that a server with these settings would serve.

    Args:
        settings: the server's.
        quick: whether to read files only, without loading models.

    Raises:
        StartupError: such a server could not start with any repository.
    """
    check_runtime(settings.device, require_gpu=settings.require_gpu, engine=settings.engine)
    return doctor.examine(settings.model_repository, _loader(settings), quick=quick)


def _loader(settings: Settings) -> Loader:
    # Without requests, nothing is counted and no version fails while serving.
    return factories.loader(settings, lambda model, version: VersionStats(), FailureLog(None))
