"""Images in a registry, by the OCI distribution specification 1.1."""

import contextlib
import urllib.parse
from collections.abc import Iterable, Iterator

from pixelserve.pull.errors import DamagedError, SourceFailed, SourceRefused

from .documents import INDEXES, MANIFESTS, MAX_BYTES, Blob, Descriptor, Read, digest_of
from .http import Connection
from .image import Image
from .references import RegistryReference

_ACCEPT = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
_BYTES = "application/octet-stream"


class Registry:
    """A registry to read from."""

    def __init__(self, reference: RegistryReference) -> None:
        self.shown = reference.shown
        self._reference = reference
        self._connection = Connection(reference.registry, reference.shown)
        self._path = _path(reference)

    def document(self, digest: str | None = None) -> bytes:
        """Returns a manifest or index: by digest, or the one that the reference names.

        Raises:
            SourceRefused: the registry has no such image, or no permission for it.
            SourceUnavailable, SourceFailed: no response, or an error.
            DamagedError: its content does not match its digest.
        """
        digest = digest or self._reference.digest
        name = digest or self._reference.tag or "latest"
        with self._connection.request("GET", f"{self._path}/manifests/{name}", headers=_ACCEPT) as response:
            data = self._connection.read(response, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DamagedError(f"{self.shown}: the manifest has more than {MAX_BYTES:,} bytes; not an image of a model")
        if digest and digest_of(data) != digest:
            raise DamagedError(f"{self.shown}: the registry sent other content than {digest}; push the image again")
        return data

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor) -> Iterator[Read]:
        """Yields what reads a blob: a function that takes a count and returns up to so many bytes, none at the end.

        Raises:
            SourceRefused, SourceUnavailable, SourceFailed: as for documents.
        """
        with self._connection.request("GET", f"{self._path}/blobs/{descriptor.digest}") as response:
            yield lambda count: self._connection.read(response, count)


def push(image: Image, reference: RegistryReference) -> None:
    """Pushes an image: blobs first, the tag last, so a tag never refers to missing content.

    Raises:
        SourceRefused: no permission.
        SourceUnavailable, SourceFailed: no answer, or no good one.
    """
    pushing = _Push(Connection(reference.registry, reference.shown), _path(reference))
    for config in image.configs:
        pushing.blob(config.digest, len(config.data), [config.data])
    pushing.blob(image.layer.digest, image.layer.size, image.layer.chunks())
    for manifest in image.manifests:
        pushing.manifest(manifest, manifest.digest)
    pushing.manifest(image.index, reference.tag or image.digest)


class _Push:
    """One push: what its steps share."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def blob(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        if self._has(digest):
            return
        with self._connection.request("POST", f"{self._path}/blobs/uploads/", data=b"") as response:
            place = response.headers.get("Location")
        if not place:
            raise SourceFailed(f"{self._connection.shown}: the registry named no place for an upload; try again")
        place = urllib.parse.urljoin(self._connection.base, place)
        place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
        headers = {"Content-Type": _BYTES, "Content-Length": str(size)}
        with self._connection.request("PUT", place, headers=headers, data=_read(chunks)):
            pass

    def _has(self, digest: str) -> bool:
        try:
            with self._connection.request("HEAD", f"{self._path}/blobs/{digest}"):
                return True
        except SourceRefused:
            # Missing, or not readable with a token for pulling; the upload says which.
            return False

    def manifest(self, blob: Blob, name: str) -> None:
        headers = {"Content-Type": blob.media_type}
        with self._connection.request("PUT", f"{self._path}/manifests/{name}", headers=headers, data=blob.data):
            pass


def _read(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as error:
        # urllib would report it as a network error.
        raise SourceFailed(f"{error.filename or 'the model'} cannot be read: {error.strerror or error}") from error


def _path(reference: RegistryReference) -> str:
    return f"/v2/{reference.name}"
