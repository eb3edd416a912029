"""Loads the first models."""

from .errors import RepositoryError
from .observe.logs import Log
from .repository.manager import RepositoryManager
from .repository.temporary import remove_abandoned
from .settings import Settings


def load_models(settings: Settings, manager: RepositoryManager, log: Log) -> bool:
    """Loads the models that the settings name; returns whether all loaded.

    Raises:
        StartupError: the settings select or require a GPU, and a model would run on the CPU.
        RepositoryError: a model cannot be served, and `exit_on_error` is on.
    """
    if removed := remove_abandoned():
        log.info("temporary files removed", folders=removed, reason="the servers that made them have ended")
    names = [name.strip() for name in (settings.load_models or "").split(",") if name.strip()]
    if settings.model_control_mode != "explicit" or "*" in names:
        failed = manager.load_all(stop_on_error=settings.exit_on_error)
    else:
        _announce(settings, manager)
        failed = manager.load_all(names, stop_on_error=settings.exit_on_error)
    if failed and settings.exit_on_error:
        raise failed[0]
    return not failed


def _announce(settings: Settings, manager: RepositoryManager) -> None:
    """Lists the models that clients may load; there may be none yet."""
    try:
        manager.announce()
    except RepositoryError:
        if not settings.model_repository.is_dir():
            raise
