"""Lists the files of a model to fetch, under names that cannot lead out of its folder."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from .errors import SourceRefused, UnsafeSourceError
from .sources import Entry, Source

# More than any model has; a circular listing would be endless.
_MAX_FILES = 10_000
_MAX_DEPTH = 8
WARMUP_FOLDER = "warmup"
"""The folder beside config.pbtxt that holds the files of model_warmup."""
# The server's rule for version folders.
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch."""

    path: PurePosixPath
    """Its checked path in the model's folder."""
    key: str
    """Its key at the source."""
    size: int | None
    """Its size in bytes, or None if the source does not say."""


@dataclass(frozen=True)
class Listing:
    """All files to fetch."""

    versions: tuple[int, ...]
    """The versions' numbers, lowest first."""
    files: tuple[RemoteFile, ...]
    """Files of the model's folder, of its warm-up and of its versions, by path."""

    @property
    def total_bytes(self) -> int | None:
        """Total size of all files; None if a size is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def list_model(source: Source, wanted: frozenset[int] | None = None, *, max_bytes: int) -> Listing:
    """Lists the files of a model, its warm-up and its versions, but no other folders or hidden files.

    Args:
        source: the model's folder.
        wanted: numbers of the versions; None: all.
        max_bytes: maximum total size, as far as the source announces it.

    Raises:
        SourceRefused: it has no version, or lacks one in `wanted`.
        UnsafeSourceError: a name leads out of the folder, or a limit is exceeded.
        PullError: the source cannot be read.
    """
    entries = _checked(source, source.root, PurePosixPath())
    found = {int(one.name): one for one in entries if one.is_folder and _VERSION.fullmatch(one.name)}
    chosen = sorted(found if wanted is None else wanted)
    if not found or not set(chosen) <= set(found):
        raise SourceRefused(_no_versions(source, chosen, sorted(found)))
    files = {PurePosixPath(one.name): one.key for one in entries if not one.is_folder}
    warmup = [one for one in entries if one.is_folder and one.name == WARMUP_FOLDER]
    for folder in (*warmup, *(found[version] for version in chosen)):
        for path, key in _walk(source, folder, PurePosixPath(folder.name)):
            files[path] = key
            if len(files) > _MAX_FILES:
                raise UnsafeSourceError(f"{source.shown} lists more than {_MAX_FILES:,} files; a model has a few")
    sized = tuple(RemoteFile(path, key, source.size(key)) for path, key in sorted(files.items()))
    listing = Listing(tuple(chosen), sized)
    check_size(source, sum(file.size or 0 for file in listing.files), max_bytes)
    return listing


def check_size(source: Source, size: int, max_bytes: int) -> None:
    """Raises UnsafeSourceError if `size` exceeds `max_bytes`."""
    if size > max_bytes:
        raise UnsafeSourceError(
            f"{source.shown}: the files have more than {max_bytes >> 20:,} MiB; raise --max-mib if that is right"
        )


def _no_versions(source: Source, chosen: list[int], found: list[int]) -> str:
    if not found:
        return (
            f"{source.shown} lists no version folder; expected a model's folder with config.pbtxt and 1/model.onnx in "
            f"it, over HTTP with an index page"
        )
    missing = ", ".join(str(version) for version in chosen if version not in found)
    return f"{source.shown} has no version {missing}; it has {', '.join(map(str, found))}"


def _walk(source: Source, folder: Entry, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    """Yields the paths and keys of all files below a folder."""
    if len(path.parts) > _MAX_DEPTH:
        raise UnsafeSourceError(f"{source.shown}: {path} is deeper than {_MAX_DEPTH} folders; a model is flat")
    for entry in _checked(source, folder.key, path):
        if entry.is_folder:
            yield from _walk(source, entry, path / entry.name)
        else:
            yield path / entry.name, entry.key


def _checked(source: Source, key: str, path: PurePosixPath) -> list[Entry]:
    """Lists a folder without hidden entries, and refuses names that could lead out of it."""
    entries = source.entries(key)
    for entry in entries:
        if entry.name in ("", ".", "..") or re.search(r"[/\\]", entry.name) or not entry.name.isprintable():
            raise UnsafeSourceError(
                f"{source.shown}: {entry.name!r} in {str(path)!r} is not the name of a file; nothing was fetched"
            )
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise UnsafeSourceError(f"{source.shown}: {str(path)!r} lists a name twice; a file and a folder may share one")
    return [entry for entry in entries if not entry.name.startswith(".")]
