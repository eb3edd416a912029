"""Images in a folder, an OCI layout; other programs see an image complete or not at all."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pixelserve.pull.errors import DamagedError, SourceFailed, SourceRefused, UsageError
from pixelserve.pull.staging import Interrupts, locked
from pixelserve.text import TextError, read_bytes

from .documents import INDEX, MAX_BYTES, Descriptor, Read, digest_of, encoded, parse_document
from .image import Image
from .references import LayoutReference

_HEADER = b'{"imageLayoutVersion":"1.0.0"}'
_TAG = "org.opencontainers.image.ref.name"
_PARTIAL = ".partial-"


class Layout:
    """A layout to read from."""

    def __init__(self, reference: LayoutReference) -> None:
        self.shown = reference.shown
        self._reference = reference
        self._folder = reference.folder

    def document(self, digest: str | None = None) -> bytes:
        """Returns a manifest or index, by digest or as named by the reference.

        Raises:
            SourceRefused: the layout has no such image.
            UsageError: the reference names none, and the layout has several.
            DamagedError: its content does not match its digest.
        """
        digest = digest or self._reference.digest or self._tagged()
        try:
            data = read_bytes(self._path(digest), MAX_BYTES)
        except OSError as error:
            raise SourceRefused(f"{self.shown}: there is no image {digest}: {error.strerror}") from error
        except TextError as error:
            raise DamagedError(f"{self.shown}: {digest}: {error}") from error
        if digest_of(data) != digest:
            raise DamagedError(f"{self.shown}: {digest} has other content; write the image again")
        return data

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor) -> Iterator[Read]:
        """Yields a function that reads a blob: it returns up to `count` bytes, none at the end.

        Raises:
            SourceRefused: the layout does not have it.
        """
        try:
            stream = self._path(descriptor.digest).open("rb")
        except OSError as error:
            raise SourceRefused(f"{self.shown}: {descriptor.digest} is missing: {error.strerror}") from error
        with stream:
            yield stream.read

    def _path(self, digest: str) -> Path:
        return self._folder.joinpath("blobs", *digest.split(":"))

    def _tagged(self) -> str:
        listed = _listed(self._folder)
        tags = {each["annotations"][_TAG]: each for each in listed if _TAG in (each.get("annotations") or {})}
        wanted = self._reference.tag
        if wanted is None:
            # Images whose tag moved to a later one stay, for rollbacks.
            digests = {str(each["digest"]) for each in (tags.values() if tags else listed)}
            if len(digests) == 1:
                return digests.pop()
            raise UsageError(f"{self.shown} holds {len(digests)} images; name one: {_names(tags)}")
        if wanted not in tags:
            raise SourceRefused(f"{self.shown}: no image has this tag; the layout has {_names(tags)}")
        return str(tags[wanted]["digest"])


def _names(tags: Iterable[str]) -> str:
    return ", ".join(sorted(tags)[:10]) or "no tags"


def _listed(folder: Path) -> list[dict[str, Any]]:
    """Returns the descriptors in a layout's index.json, as they are there."""
    path = folder / "index.json"
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise SourceRefused(f"{path}: {error.strerror}; expected the folder of an OCI layout") from error
    except TextError as error:
        raise DamagedError(f"{path}: {error}") from error
    if parse_document(data, str(path)).manifests is None:
        raise DamagedError(f"{path} is not an index; expected the folder of an OCI layout")
    listed: list[dict[str, Any]] = json.loads(data)["manifests"]
    return listed


def write_layout(image: Image, folder: Path, tag: str, *, on_wait: Callable[[], object]) -> None:
    """Writes an image into a layout, which is created if missing, and moves the tag to it.

    index.json is replaced atomically, after everything it refers to has been written. The tag's previous image stays in
    the layout, by digest.

    Raises:
        DamagedError: the folder is not a layout that can be extended.
        SourceFailed: a file changed since the image was made.
        OSError: it cannot be written.
    """
    interrupts = Interrupts()
    with interrupts.handled():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".pixelserve.lock", interrupts, on_wait):
            listed = _with_image(_current(folder), image, tag)
            blobs = folder / "blobs" / "sha256"
            blobs.mkdir(parents=True, exist_ok=True)
            _sweep(blobs)
            _write_blob(blobs, image.layer.digest, image.layer.chunks())
            for blob in (*image.configs, *image.manifests, image.index):
                _write_blob(blobs, blob.digest, [blob.data])
            _replace(folder / "oci-layout", [_HEADER])
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
            _replace(folder / "index.json", [encoded(index)])


def _current(folder: Path) -> list[dict[str, Any]]:
    if (folder / "index.json").exists():
        return _listed(folder)
    others = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    if set(others) <= {"blobs", "oci-layout"}:
        return []
    raise UsageError(f"{folder} holds {sorted(others)[0]} and no index.json: not an OCI layout; give another folder")


def _with_image(listed: list[dict[str, Any]], image: Image, tag: str) -> list[dict[str, Any]]:
    kept = []
    for each in listed:
        noted = dict(each.get("annotations") or {})
        if noted.get(_TAG) == tag:
            del noted[_TAG]
        rest = {key: value for key, value in each.items() if key != "annotations"}
        kept.append({**rest, "annotations": noted} if noted else rest)
    # Another untagged entry for the same image is redundant.
    kept = [each for each in kept if each["digest"] != image.digest or each.get("annotations")]
    return [*kept, image.index.descriptor(annotations={_TAG: tag})]


def _sweep(blobs: Path) -> None:
    """Removes leftovers of killed writers; the lock excludes running ones."""
    for path in blobs.glob(f"{_PARTIAL}*"):
        path.unlink()


def _write_blob(blobs: Path, digest: str, chunks: Iterable[bytes]) -> None:
    path = blobs / digest.removeprefix("sha256:")
    # Blobs are moved into place, so an existing one is complete.
    if not path.exists():
        _replace(path, chunks, digest)


def _replace(path: Path, chunks: Iterable[bytes], digest: str | None = None) -> None:
    """Writes a file atomically, if its content has the digest."""
    partial, hashed = path.with_name(f"{_PARTIAL}{path.name}"), hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                hashed.update(chunk)
                file.write(chunk)
            file.flush()
            # After a crash, no index may refer to empty blobs.
            os.fsync(file.fileno())
        if digest not in (None, f"sha256:{hashed.hexdigest()}"):
            raise SourceFailed("the version's files changed while they were read; are they being written? try again")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
