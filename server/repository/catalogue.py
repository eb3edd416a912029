"""The loaded versions, and why the others are not."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..deadline import Deadline
from ..errors import InvalidRequest, NotFound, Unavailable
from .aliases import STABLE
from .layout import VERSION
from .loaded import LoadedVersion

WHOLE_MODEL = 0
"""Stands for the model as a whole, when no version could be chosen."""


class State(StrEnum):
    """The state of a version, in Triton's words."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class StateReason:
    """Why a version is not ready, or why its newer files were not loaded."""

    state: State
    """Its state."""
    reason: str
    """The reason, for people."""


@dataclass(frozen=True)
class _Model:
    # Replaced as a whole, never changed in place, so that look-ups need no lock.
    ready: dict[int, LoadedVersion] = field(default_factory=dict)
    others: dict[int, StateReason] = field(default_factory=dict)
    # On disk, but not served by the version policy.
    unserved: tuple[int, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionState:
    """Whether a version is ready; if not, or if it serves older files than those on disk, why."""

    model: str
    """The model's name."""
    version: str
    """The version's number; empty for the model as a whole."""
    state: State
    """Its state."""
    reason: str = ""
    """Why it is not ready, or why it serves older files than those on disk; empty if neither."""


class Catalogue:
    """The models of one repository. Thread-safe; look-ups never wait."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._changing = threading.Lock()
        self.generation = 0
        """Changes whenever the answer of `get` may have changed."""

    def publish(self, loaded: LoadedVersion) -> LoadedVersion | None:
        """Makes a version ready; returns the one it replaces, or None."""
        with self._changing:
            model = self._models.get(loaded.name, _Model())
            others = {version: status for version, status in model.others.items() if version != loaded.version}
            others.pop(WHOLE_MODEL, None)
            self._put(loaded.name, replace(model, ready={**model.ready, loaded.version: loaded}, others=others))
        return model.ready.get(loaded.version)

    def withdraw(self, name: str, version: int, status: StateReason) -> LoadedVersion | None:
        """Removes a version and records why; returns it if it was ready."""
        with self._changing:
            model = self._models.get(name, _Model())
            ready = {number: loaded for number, loaded in model.ready.items() if number != version}
            self._put(name, replace(model, ready=ready, others={**model.others, version: status}))
        return model.ready.get(version)

    def report(self, name: str, version: int, status: StateReason) -> None:
        """Records the state of a version. A ready one stays ready."""
        with self._changing:
            model = self._models.get(name, _Model())
            self._put(name, replace(model, others={**model.others, version: status}))

    def set_unserved(self, name: str, versions: Iterable[int]) -> None:
        """Records the versions that are on disk but not served by the version policy."""
        with self._changing:
            self._put(name, replace(self._models.get(name, _Model()), unserved=tuple(versions)))

    def set_aliases(self, name: str, aliases: Mapping[str, int]) -> None:
        """Replaces a model's named versions (see `aliases`)."""
        with self._changing:
            model = self._models.get(name, _Model())
            if model.aliases != aliases:
                self._put(name, replace(model, aliases=dict(aliases)))

    def forget(self, name: str, version: int | None = None) -> None:
        """Forgets the state of a version that is not ready, or of a model without ready versions."""
        with self._changing:
            model = self._models.get(name, _Model())
            others = {} if version is None else {each: told for each, told in model.others.items() if each != version}
            if model.ready or others or version is not None:
                self._put(name, replace(model, others=others))
            elif self._models.pop(name, None):
                self.generation += 1

    def _put(self, name: str, model: _Model) -> None:
        self._models[name] = model
        self.generation += 1

    def get(self, name: str, version: str = "") -> LoadedVersion:
        """Returns the version for a request: the one it names, else the stable one, else the highest ready one.

        Raises:
            NotFound: no such model or version, or no version of the model is ready.
            Unavailable: the version exists and is not ready.
            InvalidRequest: the version is not a positive integer.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f'there is no model "{name}"; this server has {_listing(self.names())}')
        ready = model.ready
        if not version:
            if not ready:
                raise NotFound(f"no version of model {name} is ready{_because(model)}")
            if STABLE not in model.aliases:
                return ready[max(ready)]
            version = str(model.aliases[STABLE])
        if not VERSION.fullmatch(version):
            raise InvalidRequest(f'model version "{version}": expected a positive integer, or nothing for the latest')
        number = int(version)
        if number in ready:
            return ready[number]
        if number in model.others:
            raise Unavailable(f"version {version} of model {name} {_described(model.others[number])}")
        raise NotFound(f"model {name} has no version {version}; it has {_listing(map(str, sorted(ready)))}")

    def get_alias(self, name: str, alias: str) -> LoadedVersion:
        """Returns the version with a name.

        Raises:
            NotFound: no such model, or no version of that name.
            Unavailable: the version exists and is not ready.
        """
        aliases = self.aliases(name)
        if alias not in aliases:
            self.get(name)
            known = _listing(f"{each} ({version})" for each, version in aliases.items())
            raise NotFound(f'model {name} has no version called "{alias}"; it has {known}')
        return self.get(name, str(aliases[alias]))

    def aliases(self, name: str) -> Mapping[str, int]:
        """Returns a model's named versions, by name."""
        return self._models[name].aliases if name in self._models else {}

    def is_ready(self, name: str, version: str = "") -> bool:
        """Returns whether a request for this model and version would be accepted."""
        try:
            return not self.get(name, version).batcher.broken
        except (NotFound, Unavailable):
            return False

    def names(self) -> list[str]:
        """Returns the names of all models, ready or not."""
        return sorted(self._models)

    def ready_versions(self, name: str) -> list[LoadedVersion]:
        """Returns a model's ready versions, lowest first."""
        ready = self._models[name].ready if name in self._models else {}
        return [ready[version] for version in sorted(ready)]

    def others(self, name: str) -> list[tuple[str, StateReason]]:
        """Returns the states of a model's versions that are not ready, lowest first.

        An empty version stands for the model as a whole.
        """
        model = self._models.get(name, _Model())
        return [(str(version or ""), model.others[version]) for version in sorted(model.others.keys() - model.ready)]

    def all_ready(self) -> list[LoadedVersion]:
        """Returns every ready version of every model."""
        return [loaded for name in self.names() for loaded in self.ready_versions(name)]

    def index(self) -> list[VersionState]:
        """Returns the state of every version on disk, by model and number."""
        return [state for name in self.names() for state in self._states(name)]

    def _states(self, name: str) -> list[VersionState]:
        model = self._models.get(name, _Model())
        unserved = StateReason(State.UNAVAILABLE, "the version policy does not serve it")
        told = {**dict.fromkeys(model.unserved, unserved), **model.others}
        for version, loaded in model.ready.items():
            broken = loaded.batcher.broken
            told[version] = (
                StateReason(State.UNAVAILABLE, broken) if broken else StateReason(State.READY, _why_old(model, version))
            )
        return [
            VersionState(name, str(version or ""), each.state, each.reason) for version, each in sorted(told.items())
        ]

    def drain(self, deadline: Deadline | None = None) -> bool:
        """Finishes all accepted requests and ends the batchers' threads; returns whether that was done in time."""
        ended = [loaded.batcher.drain(deadline.left_s() if deadline else None) for loaded in self.all_ready()]
        return all(ended)


def _described(status: StateReason) -> str:
    if status.state is State.UNAVAILABLE:
        return f"failed to load: {status.reason}"
    return f"is not ready: {status.state.lower()}"


def _why_old(model: _Model, version: int) -> str:
    """Returns why a ready version differs from the files on disk; empty if it is not known to."""
    newer = model.others.get(version) or model.others.get(WHOLE_MODEL)
    if newer is not None:
        what = f"cannot be loaded: {newer.reason}" if newer.state is State.UNAVAILABLE else "are being loaded"
        return f"serves what was loaded before; the files on disk {what}"
    if version in model.unserved:
        return "the version policy does not serve it any more; it serves until all versions that it does are ready"
    return ""


def _because(model: _Model) -> str:
    reasons = [status.reason for _, status in sorted(model.others.items()) if status.reason]
    return f": {reasons[-1]}" if reasons else "; see the server's log for the reason"


def _listing(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "") or "none"
