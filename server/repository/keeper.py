"""Keeps each model in step with its folder: loads what is new, swaps what changed, unloads what has gone.

A version that takes another's place is loaded, warmed and checked first, then published; the old one finishes what it
has accepted and is freed. What cannot be loaded changes nothing for what serves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import RepositoryError, ServerError, StartupError
from .aliases import without_aliases
from .catalogue import WHOLE_MODEL, Catalogue, State, Status
from .config import read_config
from .layout import ModelFolder, PassedOver
from .loader import LoadedVersion, Loader
from .prints import Print, folder_print, version_print
from .selection import ChosenVersions, choose_versions

UNLOADED = Status(State.UNAVAILABLE, "unloaded")
"""What a version is that was asked to leave."""

# A version's files, and of config.pbtxt what all versions of its model are loaded with.
_VersionPrint = tuple[Print, bytes]


class Listener(Protocol):
    """Is told what becomes of models, on the thread that does it: of different models at once, of one in turn."""

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
    """What was last done about a model."""

    prints: dict[int, _VersionPrint] = field(default_factory=dict)
    """What each version's files were when it was loaded, or could not be."""
    whole: Print | None = None
    """What all files were when not even the versions could be chosen."""
    surprises: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Unexpected errors by version, with the reason that was reported: once, although each look tries again."""


class ModelKeeper:
    """Brings models in step with their folders. Any thread may use it, for one model one at a time."""

    def __init__(
        self, repository: Path, catalogue: Catalogue, loader: Loader, listener: Listener, drain_s: float | None
    ) -> None:
        """Has done nothing about any model yet; see `RepositoryManager` for the arguments."""
        self._repository = repository
        self._catalogue = catalogue
        self._loader = loader
        self._listener = listener
        self._drain_s = drain_s
        self._seen: dict[str, _Seen] = {}

    def try_again(self, name: str) -> None:
        """Has the next `update` of a model try what failed, although nothing has changed."""
        seen = self._seen.get(name, _Seen())
        ready = {loaded.version for loaded in self._catalogue.ready_versions(name)}
        seen.prints = {version: print_ for version, print_ in seen.prints.items() if version in ready}
        seen.whole = None
        seen.surprises.clear()

    def has_changed(self, loaded: LoadedVersion) -> bool:
        """Returns whether a ready version's files on disk are others than when it was loaded; names do not count."""
        seen = self._seen.get(loaded.name)
        known = seen.prints.get(loaded.version) if seen else None
        try:
            found = version_print(loaded.folder, loaded.version), without_aliases(read_config(loaded.folder))
        except (OSError, RepositoryError):
            return True
        return known is not None and known != found

    def update(self, folder: ModelFolder) -> list[RepositoryError]:
        """Brings a model up to what its folder holds; returns what cannot be served and was not known to be.

        Whatever happens is this model's trouble alone, but for settings that hold for all.

        Raises:
            StartupError: the settings ask for a GPU or require one, and the model would be computed on the CPU.
        """
        return self.contained(folder.name, WHOLE_MODEL, partial(self._bring_in_step, folder))

    def contained(self, name: str, version: int, change: Callable[[], list[RepositoryError]]) -> list[RepositoryError]:
        """Makes a change to one model; returns what cannot be served, for whatever reason."""
        try:
            return change()
        except StartupError:
            raise
        except RepositoryError as error:
            return [self.refuse(name, version, error)]
        except Exception as error:  # noqa: BLE001  one model's surprise must not cost any other
            return self.surprised(name, version, error)

    def surprised(self, name: str, version: int, error: Exception) -> list[RepositoryError]:
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
        return [self.refuse(name, version, refused)]

    def _bring_in_step(self, folder: ModelFolder) -> list[RepositoryError]:
        name, seen = folder.name, self._seen.setdefault(folder.name, _Seen())
        whole = folder_print(folder.path)
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
            for error in self.contained(name, version, partial(self._bring_up, folder, version, chosen, seen))
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
        found = version_print(folder, version), chosen.loaded_with
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
        self.tell(partial(self._listener.on_loaded, loaded))
        if replaced is not None:
            self._finish(replaced, replaced_by=True)
        return []

    def refuse(self, name: str, version: int, error: RepositoryError) -> RepositoryError:
        self._catalogue.report(name, version, Status(State.UNAVAILABLE, str(error)))
        self.tell(partial(self._listener.on_failed, name, version, error))
        return error

    def tell(self, event: Callable[[], None]) -> None:
        """Tells the listener, whose own trouble must not change what is loaded."""
        try:
            event()
        except Exception as error:  # noqa: BLE001  a listener's surprise must not stop a change
            self._loader.log_failure(error)

    def forget(self, name: str) -> list[RepositoryError]:
        """Unloads a model whose folder has gone."""
        self.unload(name)
        self._catalogue.forget(name)
        return []

    def unload(self, name: str) -> None:
        """Unloads all versions of a model; returns when they have answered what they had accepted."""
        self._seen.pop(name, None)
        for loaded in self._catalogue.ready_versions(name):
            self._retire(name, loaded.version, UNLOADED)

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
        self.tell(partial(self._listener.on_unloaded, loaded, replaced=replaced_by, finished=finished))

    def _forget_others(self, name: str, versions: Iterable[int]) -> None:
        """Forgets versions that failed and that nobody serves any more."""
        served = set(map(str, versions))
        for version, _ in self._catalogue.others(name):
            if version not in served:
                self._catalogue.forget(name, int(version or WHOLE_MODEL))
