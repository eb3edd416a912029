"""Keeps each model in sync with its folder: loads new versions, replaces changed ones, unloads removed ones.

A replacement is loaded, warmed and checked, then published; the old version finishes its accepted requests and is
freed. A failed load leaves the serving versions as they are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import RepositoryError, ServerError, StartupError
from .aliases import without_aliases
from .catalogue import WHOLE_MODEL, Catalogue, State, StateReason
from .config import read_config
from .fingerprints import Fingerprint, folder_fingerprint, version_fingerprint
from .layout import ModelFolder, PassedOver
from .loaded import LoadedVersion
from .loader import Loader
from .selection import ChosenVersions, choose_versions

UNLOADED = StateReason(State.UNAVAILABLE, "unloaded")
"""The state of a version that was unloaded on request."""

# A version's files, and of config.pbtxt what all versions of its model are loaded with.
_VersionFingerprint = tuple[Fingerprint, bytes]


class Listener(Protocol):
    """Notified of changes to models, on the changing thread: concurrently for different models, in order for one."""

    def on_loaded(self, loaded: LoadedVersion) -> None:
        """A version became ready."""

    def on_failed(self, name: str, version: int, error: RepositoryError) -> None:
        """A version, or a whole model (0), cannot be served."""

    def on_passed_over(self, folder: PassedOver) -> None:
        """A folder of the repository is not a model."""

    def on_unloaded(self, loaded: LoadedVersion, *, replaced: bool, finished: bool) -> None:
        """A version was unloaded, perhaps `replaced`; `finished`: all accepted requests were answered."""


@dataclass
class _Seen:
    """What was last done to a model."""

    fingerprints: dict[int, _VersionFingerprint] = field(default_factory=dict)
    """Each version's files when it was loaded or failed to load."""
    whole: Fingerprint | None = None
    """All files when the versions could not even be chosen."""
    surprises: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Unexpected errors by version, with the reported reason: reported once, although each look retries."""


class ModelKeeper:
    """Applies changes in models' folders. Any thread may use it, but for each model only one at a time."""

    def __init__(
        self, repository: Path, catalogue: Catalogue, loader: Loader, listener: Listener, drain_s: float | None
    ) -> None:
        """Arguments as for `RepositoryManager`."""
        self._repository = repository
        self._catalogue = catalogue
        self._loader = loader
        self._listener = listener
        self._drain_s = drain_s
        self._seen: dict[str, _Seen] = {}

    def try_again(self, name: str) -> None:
        """Makes the next `update` of a model retry failed versions even if their files are unchanged."""
        seen = self._seen.get(name, _Seen())
        ready = {loaded.version for loaded in self._catalogue.ready_versions(name)}
        seen.fingerprints = {
            version: fingerprint for version, fingerprint in seen.fingerprints.items() if version in ready
        }
        seen.whole = None
        seen.surprises.clear()

    def has_changed(self, loaded: LoadedVersion) -> bool:
        """Returns whether a ready version's files changed since it was loaded; version names do not count."""
        seen = self._seen.get(loaded.name)
        known = seen.fingerprints.get(loaded.version) if seen else None
        try:
            found = version_fingerprint(loaded.folder, loaded.version), without_aliases(read_config(loaded.folder))
        except (OSError, RepositoryError):
            return True
        return known is not None and known != found

    def update(self, folder: ModelFolder) -> list[RepositoryError]:
        """Applies a model's folder; returns the new reasons why something cannot be served.

        Failures affect this model only, except for settings that hold for all.

        Raises:
            StartupError: the settings select or require a GPU, and the model would run on the CPU.
        """
        return self.contained(folder.name, WHOLE_MODEL, partial(self._bring_in_step, folder))

    def contained(self, name: str, version: int, change: Callable[[], list[RepositoryError]]) -> list[RepositoryError]:
        """Applies a change to one model; returns what cannot be served, whatever was raised."""
        try:
            return change()
        except StartupError:
            raise
        except RepositoryError as error:
            return [self.refuse(name, version, error)]
        except Exception as error:  # noqa: BLE001  one model's surprise must not cost any other
            return self.surprised(name, version, error)

    def surprised(self, name: str, version: int, error: Exception) -> list[RepositoryError]:
        """Refuses a version, or a whole model, after an unexpected error; the next look retries."""
        seen, said = self._seen.setdefault(name, _Seen()), f"{type(error).__name__}: {error}"
        known, explained = seen.surprises.get(version, ("", ""))
        if known == said:
            self._catalogue.report(name, version, StateReason(State.UNAVAILABLE, explained))
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
        whole = folder_fingerprint(folder.path)
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
            # Otherwise the first ready version would get the stable one's requests.
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
                seen.fingerprints.pop(version, None)
                self._retire(name, version, None)
            self._forget_others(name, chosen.versions)
        return errors

    def _bring_up(
        self, folder: ModelFolder, version: int, chosen: ChosenVersions, seen: _Seen
    ) -> list[RepositoryError]:
        """Loads a new or changed version."""
        name = folder.name
        # Before it is read, so concurrent writes are noticed the next time.
        found = version_fingerprint(folder, version), chosen.loaded_with
        if seen.fingerprints.get(version) == found:
            return []
        seen.fingerprints[version] = found
        self._catalogue.report(name, version, StateReason(State.LOADING, "is being loaded"))
        try:
            loaded = self._loader.load(folder, version)
        except RepositoryError:
            raise
        except BaseException:
            # The cause is unknown: the next check retries.
            del seen.fingerprints[version]
            self._catalogue.forget(name, version)
            raise
        seen.surprises.pop(version, None)
        self._publish(loaded)
        return []

    def _publish(self, loaded: LoadedVersion) -> None:
        """Makes a version ready; drains the one that it replaces, if any."""
        replaced = self._catalogue.publish(loaded)
        self.tell(partial(self._listener.on_loaded, loaded))
        if replaced is not None:
            self._finish(replaced, replaced_by=True)

    def reload(self, name: str) -> list[RepositoryError]:
        """Loads a model's ready versions again, from the same files; returns what failed, which serves as before.

        A version whose files have changed is left to the next `update`.
        """
        return [
            error
            for loaded in self._catalogue.ready_versions(name)
            for error in self.contained(name, loaded.version, partial(self._reload, loaded))
        ]

    def _reload(self, loaded: LoadedVersion) -> list[RepositoryError]:
        if not self.has_changed(loaded):
            self._publish(self._loader.load(loaded.folder, loaded.version))
        return []

    def refuse(self, name: str, version: int, error: RepositoryError) -> RepositoryError:
        self._catalogue.report(name, version, StateReason(State.UNAVAILABLE, str(error)))
        self.tell(partial(self._listener.on_failed, name, version, error))
        return error

    def tell(self, event: Callable[[], None]) -> None:
        """Notifies the listener, whose failures must not change what is loaded."""
        try:
            event()
        except Exception as error:  # noqa: BLE001  a listener's surprise must not stop a change
            self._loader.log_failure(error)

    def forget(self, name: str) -> list[RepositoryError]:
        """Unloads a model whose folder is gone."""
        self.unload(name)
        self._catalogue.forget(name)
        return []

    def unload(self, name: str) -> None:
        """Unloads all versions of a model; returns when their accepted requests are answered."""
        self._seen.pop(name, None)
        for loaded in self._catalogue.ready_versions(name):
            self._retire(name, loaded.version, UNLOADED)

    def _retire(self, name: str, version: int, left: StateReason | None) -> None:
        """Drains and unloads a version; records the state `left`, if any."""
        loaded = self._catalogue.withdraw(name, version, StateReason(State.UNLOADING, "is being unloaded"))
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
        """Forgets failed versions that are no longer served."""
        served = set(map(str, versions))
        for version, _ in self._catalogue.others(name):
            if version not in served:
                self._catalogue.forget(name, int(version or WHOLE_MODEL))
