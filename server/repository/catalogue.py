"""What is loaded: the versions that take requests, and why others do not."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import InvalidRequest, NotFound, RepositoryError, Unavailable
from .config import read_config, select_versions
from .layout import ModelFolder, find_models
from .loader import LoadedVersion, Loader

# In place of a version's number, where no version could even be chosen.
_WHOLE_MODEL = 0
# A folder's name cannot be longer either, and Python refuses to read thousands of digits.
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass
class _Model:
    # Replaced as a whole, never changed in place, so that look-ups need no lock.
    ready: dict[int, LoadedVersion] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    # On disk, and not among those that the version policy serves.
    unserved: tuple[int, ...] = ()


@dataclass(frozen=True)
class VersionState:
    """Whether a version takes requests, and why not."""

    model: str
    """The model's name."""
    version: str
    """The version's number; empty where the model failed as a whole."""
    state: Literal["READY", "UNAVAILABLE"]
    """As the protocol names it."""
    reason: str = ""
    """Why it is not ready; empty for one that is."""


class Catalogue:
    """The models of one repository. Look-ups may come from any thread."""

    def __init__(self, repository: Path, loader: Loader) -> None:
        """Stores what it is handed; `load_all` loads."""
        self._repository = repository
        self._loader = loader
        self._models: dict[str, _Model] = {}
        self.generation = 0
        """Changes whenever `get` may give another answer than before."""

    def load_all(
        self, *, on_loaded: Callable[[LoadedVersion], None], on_failed: Callable[[str, RepositoryError], None]
    ) -> None:
        """Loads every version that the models' version policies serve, and tells of each how it went.

        Raises:
            RepositoryError: the repository cannot be read or holds no model.
        """
        for folder in find_models(self._repository):
            self._models[folder.name] = model = _Model()
            try:
                versions, model.unserved = _served_versions(folder)
            except RepositoryError as error:
                model.failed[_WHOLE_MODEL] = str(error)
                on_failed(folder.name, error)
                continue
            for version in versions:
                try:
                    loaded = self._loader.load(folder, version)
                except RepositoryError as error:
                    model.failed[version] = str(error)
                    on_failed(folder.name, error)
                else:
                    model.ready = {**model.ready, version: loaded}
                    self.generation += 1
                    on_loaded(loaded)

    def get(self, name: str, version: str = "") -> LoadedVersion:
        """Returns the version that answers a request: the one named, else the highest that is ready.

        Raises:
            NotFound: no such model or version, or no version of the model is ready.
            Unavailable: the version exists and failed to load.
            InvalidRequest: the version is not a positive integer.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f'there is no model "{name}"; this server has {_listing(self._models)}')
        ready = model.ready
        if not version:
            if not ready:
                raise NotFound(f"no version of model {name} is ready; see the server's log for the reason")
            return ready[max(ready)]
        if not _VERSION.fullmatch(version):
            raise InvalidRequest(f'model version "{version}": expected a positive integer, or nothing for the latest')
        number = int(version)
        if number in model.failed:
            raise Unavailable(f"version {version} of model {name} failed to load: {model.failed[number]}")
        if number not in ready:
            raise NotFound(f"model {name} has no version {version}; it has {_listing(map(str, sorted(ready)))}")
        return ready[number]

    def is_ready(self, name: str, version: str = "") -> bool:
        """Returns whether a request for this model and version would be taken."""
        try:
            return not self.get(name, version).batcher.broken
        except (NotFound, Unavailable):
            return False

    def names(self) -> list[str]:
        """Returns the models' names, whether ready or not."""
        return sorted(self._models)

    def ready_versions(self, name: str) -> list[LoadedVersion]:
        """Returns a model's ready versions, lowest first."""
        ready = self._models[name].ready if name in self._models else {}
        return [ready[version] for version in sorted(ready)]

    def failures(self, name: str) -> list[tuple[str, str]]:
        """Returns a model's versions that failed to load, lowest first, each with the reason.

        The version is empty where the model failed as a whole.
        """
        failed = self._models[name].failed if name in self._models else {}
        return [(str(version or ""), failed[version]) for version in sorted(failed)]

    def all_ready(self) -> list[LoadedVersion]:
        """Returns every ready version of every model."""
        return [loaded for name in self.names() for loaded in self.ready_versions(name)]

    def index(self) -> list[VersionState]:
        """Returns the state of every version on disk, by model and number."""
        index: list[VersionState] = []
        for name in self.names():
            states = dict(_states(name, self._models[name]))
            index += (states[version] for version in sorted(states))
        return index

    def drain(self, timeout_s: float | None = None) -> None:
        """Finishes what every batcher has accepted and ends its thread, or gives it up after `timeout_s`."""
        for loaded in self.all_ready():
            loaded.batcher.drain(timeout_s)


def _served_versions(folder: ModelFolder) -> tuple[list[int], tuple[int, ...]]:
    """Returns the versions that the version policy serves, and the others on disk."""
    versions = folder.versions()
    if not versions:
        raise RepositoryError(f"{folder.path}: no version folder; expected {folder.path / '1'} with the model in it")
    served = select_versions(read_config(folder), versions)
    if not served:
        raise RepositoryError(f"{folder.config_file}: version_policy serves none of the versions on disk: {versions}")
    return served, tuple(version for version in versions if version not in served)


def _states(name: str, model: _Model) -> Iterator[tuple[int, VersionState]]:
    for version, loaded in model.ready.items():
        broken = loaded.batcher.broken
        yield version, VersionState(name, str(version), "UNAVAILABLE" if broken else "READY", broken)
    for version, reason in model.failed.items():
        yield version, VersionState(name, str(version or ""), "UNAVAILABLE", reason)
    for version in model.unserved:
        yield version, VersionState(name, str(version), "UNAVAILABLE", "the version policy does not serve it")


def _listing(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "") or "none"
