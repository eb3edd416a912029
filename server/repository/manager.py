"""Keeps the loaded models in step with the repository: finds models' folders and orders their changes."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..deadline import Deadline
from ..errors import NotFound, QueueFull, RepositoryError, StartupError
from .catalogue import WHOLE_MODEL, Catalogue, State, StateReason
from .changes import ChangeQueue
from .config import label_problems, read_config
from .fingerprints import folder_fingerprint
from .keeper import Listener, ModelKeeper
from .layout import ModelFolder, PassedOver, Survey, find_model, survey
from .loaded import LoadedVersion
from .loader import Loader
from .overlay import Overlays, Override
from .selection import choose_versions

NOT_LOADED = StateReason(State.UNAVAILABLE, "not loaded")
"""The state of a model that was never loaded."""


class RepositoryManager:
    """Loads and unloads the models of one repository. Every method may be called from any thread.

    Changes to one model are applied in order, one at a time; `ChangeQueue` decides when changes to several overlap.

    Args:
        repository: folder of models.
        catalogue: receives the loaded versions.
        loader: loads versions.
        listener: is notified of changes.
        drain_s: seconds that an unloaded version has for its accepted requests; None: no limit.
        max_load_files_bytes: maximum bytes of files from load requests that are kept at once.
    """

    def __init__(
        self,
        repository: Path,
        catalogue: Catalogue,
        loader: Loader,
        listener: Listener,
        *,
        drain_s: float | None = None,
        max_load_files_bytes: int = 1 << 31,
    ) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._listener = listener
        self._keeper = ModelKeeper(repository, catalogue, loader, listener, drain_s)
        self._passed_over: list[PassedOver] = []
        self._overlays = Overlays(max_load_files_bytes)
        self._changes = ChangeQueue()
        # Guards what all models share: which folders were found.
        self._looking = threading.Lock()

    def load_all(self, names: Sequence[str] | None = None, *, stop_on_error: bool = False) -> list[RepositoryError]:
        """Loads every version that the version policies serve; returns what cannot be served.

        Args:
            names: the models; None: all in the repository.
            stop_on_error: whether to stop at the first model with an error. All text files are read before any model
                is loaded, which may take long.

        Raises:
            RepositoryError: the repository cannot be read or holds no model.
            StartupError: the settings select or require a GPU, and a model would run on the CPU.
        """
        errors: list[RepositoryError] = []
        folders = self._survey().models if names is None else self._find(names, errors)
        if stop_on_error:
            for folder in folders:
                errors += self._keeper.contained(folder.name, WHOLE_MODEL, partial(self._read_texts, folder))
            for folder in folders:
                if errors:
                    break
                errors += self._changes.submit(folder.name, partial(self._keeper.update, folder)).result()
            return errors
        changes = [self._changes.submit(folder.name, partial(self._keeper.update, folder)) for folder in folders]
        return [*errors, *(error for change in changes for error in change.result())]

    def _find(self, names: Iterable[str], errors: list[RepositoryError]) -> list[ModelFolder]:
        """Returns models' folders; adds an error for each missing one."""
        folders = []
        for name in names:
            try:
                folders.append(find_model(self._repository, name))
            except NotFound as error:
                errors.append(RepositoryError(f"--load-models {name}: {error}"))
        return folders

    def _survey(self) -> Survey:
        """Returns which folders are models; reports each other folder once."""
        with self._looking:
            return self._surveyed()

    def _surveyed(self) -> Survey:
        found, known = survey(self._repository), set(self._catalogue.names())
        # A model's folder that was emptied for its next version still is the model's, which reports that it has none.
        emptied = {each.path for each in found.passed_over if each.path.name in known and not each.may_be_model}
        found = Survey(
            [*found.models, *map(ModelFolder, sorted(emptied))],
            [each for each in found.passed_over if each.path not in emptied],
        )
        for folder in found.passed_over:
            if folder not in self._passed_over:
                self._keeper.tell(partial(self._listener.on_passed_over, folder))
        self._passed_over = found.passed_over
        return found

    def _read_texts(self, folder: ModelFolder) -> list[RepositoryError]:
        """Refuses a model for errors in its text files, without loading anything."""
        config = read_config(folder)
        choose_versions(folder, config)
        problems = [] if config is None else label_problems(folder, config, ())
        return [self._keeper.refuse(folder.name, WHOLE_MODEL, problem) for problem in problems]

    def announce(self) -> None:
        """Lists the models on disk in the catalogue without loading them.

        Raises:
            RepositoryError: the repository cannot be read or holds no model.
        """
        for folder in self._survey().models:
            if folder.name not in self._catalogue.names():
                self._catalogue.report(folder.name, WHOLE_MODEL, NOT_LOADED)

    def load(self, name: str, override: Override | None = None) -> "Future[list[RepositoryError]]":
        """Applies one model's folder.

        Args:
            name: the model's.
            override: replaces files of its folder until it is loaded again without.

        Returns:
            What cannot be served, including known failures. Raises NotFound if the repository has no such folder,
            InvalidRequest if there is an override and the name cannot be a folder's, RepositoryError if the override
            cannot be written; is cancelled if the manager is closed first.

        Raises:
            QueueFull: too many slow loads are running.
        """
        return self._changes.submit(name, partial(self._load, name, override))

    def _load(self, name: str, override: Override | None) -> list[RepositoryError]:
        if override is None:
            folder = find_model(self._repository, name)
        else:
            folder = self._overlays.make(self._repository, name, override)
        self._keeper.try_again(name)
        try:
            return self._keeper.update(folder)
        finally:
            # If a version failed, another may still use an earlier override.
            self._overlays.keep(name, {loaded.folder for loaded in self._catalogue.ready_versions(name)})

    def unload(self, name: str) -> "Future[None]":
        """Unloads all versions of a model.

        Returns:
            Completes when their accepted requests are answered. Raises NotFound if the server has no such model; is
            cancelled if the manager is closed first.

        Raises:
            QueueFull: too many slow loads are running.
        """
        return self._changes.submit(name, partial(self._unload_known, name))

    def _unload_known(self, name: str) -> None:
        if name not in self._catalogue.names():
            raise NotFound(f'there is no model "{name}" to unload')
        self._keeper.unload(name)
        self._overlays.keep(name)

    def stop(self, deadline: Deadline) -> bool:
        """Stops changes, drains all models by the deadline, and removes its temporary files.

        Returns:
            Whether everything ended; a load cannot be interrupted.
        """
        is_idle = self._changes.close()
        is_idle &= self._catalogue.drain(deadline)
        self._overlays.close()
        return is_idle

    def refresh(self) -> None:
        """Applies every model's folder, and unloads models whose folders are gone.

        If the repository is unreadable or suddenly empty, assumes that the disk failed and keeps serving.

        Raises:
            RepositoryError: the repository is unreadable or empty.
        """
        found = self._survey()
        changes = {
            folder.name: partial(self._contained, folder.name, partial(self._keeper.update, folder))
            for folder in found.models
        }
        there = changes.keys() | {folder.path.name for folder in found.passed_over}
        for name in self._catalogue.names():
            if name not in there:
                changes[name] = partial(self._keeper.contained, name, WHOLE_MODEL, partial(self._keeper.forget, name))
        submitted: dict[str, Future[list[RepositoryError]]] = {}
        # The next look handles what is skipped here: too many slow loads are running, or the model's own is.
        with suppress(QueueFull):
            for name, change in changes.items():
                if not self._changes.is_changing(name):
                    submitted[name] = self._changes.submit(name, change)
        self._changes.wait(submitted)

    def _contained(self, name: str, change: Callable[[], list[RepositoryError]]) -> list[RepositoryError]:
        """Applies a change whose caller is not there to be told that the settings do not fit this machine."""
        try:
            return change()
        except StartupError as error:
            return self._keeper.surprised(name, WHOLE_MODEL, error)

    def reload(self, is_concerned: Callable[[LoadedVersion], bool]) -> None:
        """Loads models again from the same files, one after another, on the threads of changes.

        Args:
            is_concerned: which ready versions; all versions of their models are loaded again.

        Raises:
            QueueFull: too many slow loads are running.
        """
        for name in {loaded.name: None for loaded in self._catalogue.all_ready() if is_concerned(loaded)}:
            self._changes.submit(name, partial(self._contained, name, partial(self._keeper.reload, name)))

    def changed(self) -> set[tuple[str, int]]:
        """Returns the ready versions, by model and number, whose files changed since they were loaded.

        Version names in config.pbtxt do not count. Thread-safe; lists the files of all ready versions.
        """
        return {
            (loaded.name, loaded.version) for loaded in self._catalogue.all_ready() if self._keeper.has_changed(loaded)
        }

    def fingerprint(self) -> object:
        """Returns a value that changes when a file of the repository is written, added or removed.

        Raises:
            RepositoryError: the repository cannot be read, or is empty.
        """
        return {folder.name: folder_fingerprint(folder.path) for folder in survey(self._repository).models}
