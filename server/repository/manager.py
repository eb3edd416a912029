"""Keeps what is loaded in step with the repository: loads what is new, swaps what changed, unloads what has gone.

A version that takes another's place is loaded, warmed and checked first, then published; the old one finishes what it
has accepted and is freed. What cannot be loaded changes nothing for what serves.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import NotFound, QueueFull, RepositoryError, ServerError, StartupError
from ..life import Deadline
from .catalogue import WHOLE_MODEL, Catalogue, State, Status
from .config import label_problems, read_config
from .layout import ModelFolder, PassedOver, Survey, find_model, survey
from .loader import LoadedVersion, Loader
from .overlay import Overlays, Override
from .selection import ChosenVersions, choose_versions
from .turns import Turns

NOT_LOADED = Status(State.UNAVAILABLE, "not loaded")
"""What a model is that nobody has asked for yet."""
UNLOADED = Status(State.UNAVAILABLE, "unloaded")
"""What a version is that was asked to leave."""

# Name, size, time of change and inode of each file: what differs when somebody has written something.
_Print = tuple[tuple[str, int, int, int], ...]
# The same of a version's files, and of config.pbtxt what all versions of its model are loaded with.
_VersionPrint = tuple[_Print, bytes]


class Listener(Protocol):
    """Is told what the manager does, on the thread that does it: of different models at once, of one in turn."""

    def on_loaded(self, loaded: LoadedVersion) -> None:
        """A version takes requests."""

    def on_failed(self, name: str, version: int, error: RepositoryError) -> None:
        """A version, or a model as a whole (0), cannot be served."""

    def on_passed_over(self, folder: PassedOver) -> None:
        """A folder of the repository is not taken for a model."""

    def on_unloaded(self, loaded: LoadedVersion, *, replaced: bool, finished: bool) -> None:
        """A version has gone: for another with its number (`replaced`), with all that it accepted answered or not."""


@dataclass
class _Seen:
    """What the manager last did about a model."""

    prints: dict[int, _VersionPrint] = field(default_factory=dict)
    """What each version's files were when it was loaded, or could not be."""
    whole: _Print | None = None
    """What all files were when not even the versions could be chosen."""
    surprises: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Unexpected errors by version, with the reason that was reported: once, although each look tries again."""


class RepositoryManager:
    """Loads and unloads the models of one repository. Every method may be called from any thread.

    A model's changes are made one at a time, in the order in which they were asked for; `Turns` says when different
    models' are made at once.
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
        """Stores what it is handed.

        Args:
            repository: folder of models.
            catalogue: is told what serves.
            loader: loads versions.
            listener: is told what happens.
            drain_s: seconds that a version which leaves gets to finish what it has accepted; None: all it needs.
            max_load_files_bytes: most bytes of files that load requests brought which are kept at once.
        """
        self._repository = repository
        self._catalogue = catalogue
        self._loader = loader
        self._listener = listener
        self._drain_s = drain_s
        self._seen: dict[str, _Seen] = {}
        self._passed_over: list[PassedOver] = []
        self._overlays = Overlays(max_load_files_bytes)
        self._turns = Turns()
        # For what is all models': which folders were found.
        self._looking = threading.Lock()

    def load_all(self, names: Sequence[str] | None = None, *, stop_on_error: bool = False) -> list[RepositoryError]:
        """Loads every version that the models' version policies serve; returns what cannot be served.

        Args:
            names: the models; None: all of the repository.
            stop_on_error: whether the first model that has such a version is the last one that is looked at. The texts
                of all are read before any is loaded, which may take long.

        Raises:
            RepositoryError: the repository cannot be read or holds no model.
            StartupError: the settings ask for a GPU or require one, and a model would be computed on the CPU.
        """
        errors: list[RepositoryError] = []
        folders = self._survey().models if names is None else self._find(names, errors)
        if stop_on_error:
            for folder in folders:
                errors += self._contained(folder.name, WHOLE_MODEL, partial(self._read_texts, folder))
            for folder in folders:
                if errors:
                    break
                errors += self._turns.submit(folder.name, partial(self._update, folder)).result()
            return errors
        changes = [self._turns.submit(folder.name, partial(self._update, folder)) for folder in folders]
        return [*errors, *(error for change in changes for error in change.result())]

    def _find(self, names: Iterable[str], errors: list[RepositoryError]) -> list[ModelFolder]:
        """Returns the folders of models; adds to the errors those that are not there."""
        folders = []
        for name in names:
            try:
                folders.append(find_model(self._repository, name))
            except NotFound as error:
                errors.append(RepositoryError(f"--load-models {name}: {error}"))
        return folders

    def _survey(self) -> Survey:
        """Returns which folders are models, and tells of those that are not and were not told of before."""
        with self._looking:
            return self._surveyed()

    def _surveyed(self) -> Survey:
        found, known = survey(self._repository), set(self._catalogue.names())
        # Emptied for its next version, a folder is still its model's, which says that there is none.
        emptied = {each.path for each in found.passed_over if each.path.name in known and not each.may_be_model}
        found = Survey(
            [*found.models, *map(ModelFolder, sorted(emptied))],
            [each for each in found.passed_over if each.path not in emptied],
        )
        for folder in found.passed_over:
            if folder not in self._passed_over:
                self._tell(partial(self._listener.on_passed_over, folder))
        self._passed_over = found.passed_over
        return found

    def _read_texts(self, folder: ModelFolder) -> list[RepositoryError]:
        """Refuses a model for what its text files say, without loading anything."""
        config = read_config(folder)
        choose_versions(folder, config)
        problems = [] if config is None else label_problems(folder, config, ())
        return [self._refuse(folder.name, WHOLE_MODEL, problem) for problem in problems]

    def announce(self) -> None:
        """Tells the catalogue of the models that are there and not loaded.

        Raises:
            RepositoryError: the repository cannot be read or holds no model.
        """
        for folder in self._survey().models:
            if folder.name not in self._catalogue.names():
                self._catalogue.report(folder.name, WHOLE_MODEL, NOT_LOADED)

    def load(self, name: str, override: Override | None = None) -> "Future[list[RepositoryError]]":
        """Brings one model up to what its folder holds.

        Args:
            name: the model's.
            override: what takes the place of its folder's files, until it is loaded again without.

        Returns:
            What cannot be served, also if it could not before. It raises NotFound if the repository has no such folder,
            InvalidRequest if there is an override and the name is no folder's, RepositoryError if the disk does not
            take the override, and is cancelled if the manager is closed first.

        Raises:
            QueueFull: too many loads take too long.
        """
        return self._turns.submit(name, partial(self._load, name, override))

    def _load(self, name: str, override: Override | None) -> list[RepositoryError]:
        if override is None:
            folder = find_model(self._repository, name)
        else:
            folder = self._overlays.make(self._repository, name, override)
        seen = self._seen.get(name, _Seen())
        # Asked by name, what failed is tried again although nothing has changed.
        ready = {loaded.version for loaded in self._catalogue.ready_versions(name)}
        seen.prints = {version: print_ for version, print_ in seen.prints.items() if version in ready}
        seen.whole = None
        seen.surprises.clear()
        try:
            return self._update(folder)
        finally:
            # Where a version failed, another may still be of an earlier override.
            self._overlays.keep(name, {loaded.folder for loaded in self._catalogue.ready_versions(name)})

    def unload(self, name: str) -> "Future[None]":
        """Unloads all versions of a model.

        Returns:
            Ends when they have answered what they had accepted. It raises NotFound if the server knows no such model,
            and is cancelled if the manager is closed first.

        Raises:
            QueueFull: too many loads take too long.
        """
        return self._turns.submit(name, partial(self._unload_known, name))

    def _unload_known(self, name: str) -> None:
        if name not in self._catalogue.names():
            raise NotFound(f'there is no model "{name}" to unload')
        self._seen.pop(name, None)
        self._unload(name, UNLOADED)
        self._overlays.keep(name)

    def stop(self, deadline: Deadline) -> bool:
        """Makes no more changes, has what is loaded finish by the deadline, and removes what it has put on disk.

        Returns:
            Whether nothing runs any more; a load cannot be interrupted.
        """
        is_idle = self._turns.close()
        is_idle &= self._catalogue.drain(deadline)
        self._overlays.close()
        return is_idle

    def refresh(self) -> None:
        """Brings every model up to what the repository holds, and unloads those whose folder has gone.

        A repository that cannot be read, or is empty of a sudden, is a disk that has gone: what serves goes on.

        Raises:
            RepositoryError: it is one; or nothing was ever there.
        """
        found = self._survey()
        changes = {folder.name: partial(self._refresh_one, folder) for folder in found.models}
        there = changes.keys() | {folder.path.name for folder in found.passed_over}
        for name in self._catalogue.names():
            if name not in there:
                changes[name] = partial(self._contained, name, WHOLE_MODEL, partial(self._forget, name))
        submitted: dict[str, Future[list[RepositoryError]]] = {}
        # The next look sees what is left out: too many loads take too long, or a model's own does.
        with suppress(QueueFull):
            for name, change in changes.items():
                if not self._turns.is_changing(name):
                    submitted[name] = self._turns.submit(name, change)
        self._turns.wait(submitted)

    def _refresh_one(self, folder: ModelFolder) -> list[RepositoryError]:
        try:
            return self._update(folder)
        except StartupError as error:
            return self._surprised(folder.name, WHOLE_MODEL, error)

    def changed(self) -> set[tuple[str, int]]:
        """Returns the ready versions, by model and number, whose files on disk are others than when they were loaded.

        config.pbtxt does not count, which may change in ways that concern no loaded version. May be called from any
        thread; takes the time of listing the files of all ready versions.
        """
        return {(loaded.name, loaded.version) for loaded in self._catalogue.all_ready() if self._has_changed(loaded)}

    def _has_changed(self, loaded: LoadedVersion) -> bool:
        seen = self._seen.get(loaded.name)
        known = seen.prints.get(loaded.version) if seen else None
        try:
            return known is not None and known[0] != _version_print(loaded.folder, loaded.version)
        except OSError:
            return True

    def fingerprint(self) -> object:
        """Returns a value that differs where a file of the repository has been written, added or removed.

        Raises:
            RepositoryError: the repository cannot be read, or is empty.
        """
        return {folder.name: _print(folder.path) for folder in survey(self._repository).models}

    def _update(self, folder: ModelFolder) -> list[RepositoryError]:
        """Brings a model up to what its folder holds; returns what cannot be served and was not known to be.

        Whatever happens is this model's trouble alone, but for settings that hold for all.

        Raises:
            StartupError: the settings ask for a GPU or require one, and the model would be computed on the CPU.
        """
        return self._contained(folder.name, WHOLE_MODEL, partial(self._bring_in_step, folder))

    def _contained(self, name: str, version: int, change: Callable[[], list[RepositoryError]]) -> list[RepositoryError]:
        """Makes a change to one model; returns what cannot be served, for whatever reason."""
        try:
            return change()
        except StartupError:
            raise
        except RepositoryError as error:
            return [self._refuse(name, version, error)]
        except Exception as error:  # noqa: BLE001  one model's surprise must not cost any other
            return self._surprised(name, version, error)

    def _surprised(self, name: str, version: int, error: Exception) -> list[RepositoryError]:
        """Refuses a version, or a whole model, for an unexpected error; the next look tries it again."""
        seen, said = self._seen.setdefault(name, _Seen()), f"{type(error).__name__}: {error}"
        known, explained = seen.surprises.get(version, ("", ""))
        if known == said:
            self._catalogue.report(name, version, Status(State.UNAVAILABLE, explained))
            return []
        if isinstance(error, ServerError | OSError):
            reason = f"cannot be loaded now: {error}"
        else:
            reason = f"unexpected failure; the server's log has the details under {self._loader.log_failure(error)}"
        refused = RepositoryError(reason, path=self._repository / name)
        seen.surprises[version] = (said, str(refused))
        return [self._refuse(name, version, refused)]

    def _bring_in_step(self, folder: ModelFolder) -> list[RepositoryError]:
        name, seen = folder.name, self._seen.setdefault(folder.name, _Seen())
        whole = _print(folder.path)
        if whole == seen.whole:
            return []
        try:
            chosen = choose_versions(folder, read_config(folder))
        except RepositoryError:
            seen.whole = whole
            raise
        seen.whole = None
        seen.surprises.pop(WHOLE_MODEL, None)
        self._catalogue.forget(name, WHOLE_MODEL)
        self._catalogue.set_unserved(name, chosen.others)
        if not self._catalogue.ready_versions(name):
            # Or the first that is ready would take the stable one's requests.
            self._catalogue.set_aliases(name, chosen.aliases)
        errors = [
            error
            for version in chosen.versions
            for error in self._contained(name, version, partial(self._bring_up, folder, version, chosen, seen))
        ]
        ready = {loaded.version for loaded in self._catalogue.ready_versions(name)}
        if ready.issuperset(chosen.aliases.values()):
            self._catalogue.set_aliases(name, chosen.aliases)
        # The old ones stay where a new one does not load.
        if ready.issuperset(chosen.versions):
            for version in ready.difference(chosen.versions):
                seen.prints.pop(version, None)
                self._retire(name, version, None)
            self._forget_others(name, chosen.versions)
        return errors

    def _bring_up(
        self, folder: ModelFolder, version: int, chosen: ChosenVersions, seen: _Seen
    ) -> list[RepositoryError]:
        """Loads a version that is new or has changed."""
        name = folder.name
        # Before it is read: what is written meanwhile shall be seen the next time.
        found = _version_print(folder, version), chosen.loaded_with
        if seen.prints.get(version) == found:
            return []
        seen.prints[version] = found
        self._catalogue.report(name, version, Status(State.LOADING, "is being loaded"))
        try:
            loaded = self._loader.load(folder, version)
        except RepositoryError:
            raise
        except BaseException:
            # Nobody's fault that is known: the next look tries again.
            del seen.prints[version]
            self._catalogue.forget(name, version)
            raise
        seen.surprises.pop(version, None)
        replaced = self._catalogue.publish(loaded)
        self._tell(partial(self._listener.on_loaded, loaded))
        if replaced is not None:
            self._finish(replaced, replaced_by=True)
        return []

    def _refuse(self, name: str, version: int, error: RepositoryError) -> RepositoryError:
        self._catalogue.report(name, version, Status(State.UNAVAILABLE, str(error)))
        self._tell(partial(self._listener.on_failed, name, version, error))
        return error

    def _tell(self, event: Callable[[], None]) -> None:
        """Tells the listener, whose own trouble must not change what is loaded."""
        try:
            event()
        except Exception as error:  # noqa: BLE001
            self._loader.log_failure(error)

    def _forget(self, name: str) -> list[RepositoryError]:
        """Unloads a model whose folder has gone."""
        self._seen.pop(name, None)
        self._unload(name, UNLOADED)
        self._catalogue.forget(name)
        return []

    def _unload(self, name: str, left: Status | None) -> None:
        for loaded in self._catalogue.ready_versions(name):
            self._retire(name, loaded.version, left)

    def _retire(self, name: str, version: int, left: Status | None) -> None:
        """Has a version finish and go; says `left` of it afterwards, or nothing."""
        loaded = self._catalogue.withdraw(name, version, Status(State.UNLOADING, "is being unloaded"))
        if loaded is not None:
            self._finish(loaded, replaced_by=False)
        if left is None:
            self._catalogue.forget(name, version)
        else:
            self._catalogue.report(name, version, left)

    def _finish(self, loaded: LoadedVersion, *, replaced_by: bool) -> None:
        finished = loaded.batcher.drain(self._drain_s)
        self._tell(partial(self._listener.on_unloaded, loaded, replaced=replaced_by, finished=finished))

    def _forget_others(self, name: str, versions: Iterable[int]) -> None:
        """Forgets versions that failed and that nobody serves any more."""
        served = set(map(str, versions))
        for version, _ in self._catalogue.others(name):
            if version not in served:
                self._catalogue.forget(name, int(version or WHOLE_MODEL))


def _version_print(folder: ModelFolder, version: int) -> _Print:
    """Returns what differs when a file of a version changes, or one that is all versions', without config.pbtxt."""
    others = {str(each) for each in folder.versions() if each != version}
    config_file = str(folder.config_file)
    return tuple(entry for entry in _print(folder.path, but=others) if entry[0] != config_file)


def _print(folder: Path, but: Iterable[str] = ()) -> _Print:
    """Returns what differs when a file below a folder is written, added or removed; without the subfolders `but`."""
    found: list[tuple[str, int, int, int]] = []
    walked: set[tuple[int, int]] = set()
    # Links are how Kubernetes mounts files; one that leads back up must not be followed for ever.
    for root, folders, files in os.walk(folder, followlinks=True):
        try:
            status = Path(root).stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in walked:
            folders.clear()
            continue
        walked.add((status.st_dev, status.st_ino))
        if Path(root) == folder:
            folders[:] = [name for name in folders if name not in but]
        for name in files:
            path = Path(root, name)
            try:
                status = path.stat()
            except OSError:
                # It has gone since it was listed, or leads nowhere. What needs it says so; others do not care.
                continue
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(found))
