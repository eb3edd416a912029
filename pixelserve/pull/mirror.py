"""Mirrors a model into a repository: list, fetch, verify, compare, then publish."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixelserve.oci.references import is_image
from pixelserve.oci.source import ImageSource, name_of

from .errors import DamagedError, UsageError, WriteError
from .fetch import fetch
from .listing import list_model
from .publish import Plan, make_plan, publish
from .sources import Source, UnpackedSource, open_source
from .staging import Interrupts, staging
from .verify import Evidence, settle_config, verify_version

# The rule of `pixelserve export`.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DEFAULT_MAX_BYTES = 4096 << 20
"""Default maximum for the total size of a model's files."""

Check = Callable[[Path, Sequence[int]], Mapping[int, str]]
"""Loads and runs versions of the model in a folder; returns the findings by version, or raises."""


_Fetch = Callable[[Path], tuple[Sequence[int], int]]
"""Fetches into an empty folder; returns the versions and the number of bytes fetched."""


@dataclass(frozen=True)
class Wanted:
    """What to mirror, and how."""

    url: str
    """The model's folder, a path or a URL that fsspec knows; or its image, oci:DIR or oci://REGISTRY/NAME."""
    repository: Path
    """The model repository, created if missing."""
    name: str | None = None
    """The model's name there; None: that of its folder at the source."""
    versions: frozenset[int] | None = None
    """The versions; None: all at the source."""
    replace: bool = False
    """Whether to overwrite a version with other content."""
    require_card: bool = False
    """Whether to refuse versions without a card."""
    max_bytes: int = DEFAULT_MAX_BYTES
    """Maximum total size of the files."""
    check: Check | None = None
    """Runs the model before it is published; None: it is not run."""


class Listener(Protocol):
    """Receives the progress of a pull."""

    def on_listed(self, total_bytes: int | None) -> None:
        """The source was listed; None if not every file's size is known."""

    def on_bytes(self, count: int) -> None:
        """`count` more bytes arrived."""

    def on_wait(self, model: str) -> None:
        """Waiting for another pull of the same model."""


class Silent:
    """A listener that does nothing."""

    def on_listed(self, total_bytes: int | None) -> None:
        """Does nothing."""

    def on_bytes(self, count: int) -> None:
        """Does nothing."""

    def on_wait(self, model: str) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Mirrored:
    """A mirrored model."""

    source: str
    """Its URL, without passwords."""
    model: Path
    """Its folder in the repository."""
    plan: Plan
    """The changes made."""
    evidence: dict[int, Evidence]
    """The evidence of each version."""
    replayed: Mapping[int, str] | None
    """The findings of `check` by version; None if it was not run."""
    fetched_bytes: int
    """Number of bytes fetched."""

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve models pull --json`."""
        return {
            "model": self.model.name,
            "folder": str(self.model),
            "source": self.source,
            "versions": [
                {
                    "version": version,
                    "state": state.value,
                    "sha256": self.evidence[version].sha256,
                    "golden_samples": self.evidence[version].golden_samples,
                    "checked": None if self.replayed is None else self.replayed[version],
                }
                for version, state in self.plan.versions.items()
            ],
            "files": {name: state.value for name, state in self.plan.files.items()},
            "fetched_bytes": self.fetched_bytes,
        }


def mirror(wanted: Wanted, listener: Listener | None = None) -> Mirrored:
    """Mirrors a model, completely or not at all.

    Until everything is fetched and verified, it stays in a hidden folder of the repository, which is always removed.
    SIGTERM acts like Ctrl-C.

    Raises:
        PullError: it cannot be mirrored; the message says why and what to do.
        KeyboardInterrupt: Ctrl-C or SIGTERM; nothing changed.
    """
    interrupts = Interrupts()
    with interrupts.handled():
        source = ImageSource(wanted.url) if is_image(wanted.url) else open_source(wanted.url)
        pull = _Pull(wanted, source, _model_name(wanted, source), listener or Silent(), interrupts)
        try:
            return pull.run()
        except OSError as error:
            # Errors of the source were translated earlier.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise WriteError(
                f"{pull.model} cannot be written: {reason}; nothing half-written was left: make room or give another "
                f"place"
            ) from error


def _model_name(wanted: Wanted, source: Source | ImageSource) -> str:
    name = wanted.name or source.name or (name_of(wanted.url) if isinstance(source, ImageSource) else "")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'model name "{name}": expected letters, digits, ".", "_" and "-", a letter or digit first; '
            f"give one with --name"
        )
    return name


@dataclass(frozen=True)
class _Pull:
    """One pull: what its steps share."""

    wanted: Wanted
    source: Source | ImageSource
    name: str
    listener: Listener
    interrupts: Interrupts

    @property
    def model(self) -> Path:
        return self.wanted.repository / self.name

    def run(self) -> Mirrored:
        wanted, source = self.wanted, self.source
        fetch_into = self._image(source) if isinstance(source, ImageSource) else self._folder(source)
        with staging(wanted.repository, self.name, self.interrupts, lambda: self.listener.on_wait(self.name)) as folder:
            fetched = folder / self.name
            fetched.mkdir()
            versions, came = fetch_into(fetched)
            evidence = self._verify(fetched, versions)
            replayed = self._replay(fetched, versions)
            plan = make_plan(fetched, self.model, replace=wanted.replace)
            with self.interrupts.held():
                publish(plan, fetched, self.model)
        return Mirrored(self.source.shown, self.model, plan, evidence, replayed, came)

    def _folder(self, source: Source) -> _Fetch:
        """Lists a folder; returns the function that fetches it."""
        most = self.wanted.max_bytes
        listing = list_model(source, self.wanted.versions, max_bytes=most)
        self.listener.on_listed(listing.total_bytes)

        def fetch_into(fetched: Path) -> tuple[Sequence[int], int]:
            came = fetch(source, listing, fetched, present=self.model, max_bytes=most, on_bytes=self.listener.on_bytes)
            return listing.versions, came

        return fetch_into

    def _image(self, source: ImageSource) -> _Fetch:
        """Returns the function that fetches an image, whose files are unknown until it is unpacked."""
        most = self.wanted.max_bytes
        self.listener.on_listed(source.total_bytes)

        def fetch_into(fetched: Path) -> tuple[Sequence[int], int]:
            folder = fetched.with_name(f"{fetched.name}.image")
            source.unpack(folder, self.name, max_bytes=most, on_bytes=self.listener.on_bytes)
            unpacked = UnpackedSource(folder, source.shown)
            listing = list_model(unpacked, self.wanted.versions, max_bytes=most)
            fetch(unpacked, listing, fetched, present=self.model, max_bytes=most, on_bytes=lambda _: None)
            return listing.versions, source.total_bytes

        return fetch_into

    def _verify(self, fetched: Path, versions: Sequence[int]) -> dict[int, Evidence]:
        require_card = self.wanted.require_card
        try:
            model_file = settle_config(fetched, self.name, rename=self.wanted.name is not None)
            return {
                version: verify_version(fetched / str(version), model_file, require_card=require_card)
                for version in versions
            }
        except DamagedError as error:
            raise DamagedError(f"{self.source.shown}: {error}") from error

    def _replay(self, fetched: Path, versions: Sequence[int]) -> Mapping[int, str] | None:
        if self.wanted.check is None:
            return None
        try:
            return self.wanted.check(fetched, versions)
        except Exception as error:
            # Errors of a model have an exit code; anything else is a bug.
            if not hasattr(error, "exit_code"):
                raise
            raise DamagedError(f"{self.source.shown}: {str(error).replace(f'{fetched}/', '')}") from error
