"""An image as a source of a pull: which manifest holds the model, and its files in a folder."""

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Protocol

from pixelserve.pull.errors import DamagedError, UnsafeSourceError, UsageError

from .annotations import MODEL
from .documents import Descriptor, Document, Read, parse_document
from .layout import Layout
from .references import LayoutReference, parse_reference
from .registry import Registry
from .unpack import Unpacker

_MAX_LAYERS = 256
# An index may list indexes.
_MAX_INDEXES = 4
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Store(Protocol):
    """Stores images. Every method raises a `PullError` that says what is wrong."""

    shown: str
    """The image, for messages."""

    def document(self, digest: str | None = None) -> bytes:
        """Returns a manifest or index, by verified digest or as named by the reference."""

    def blob(self, descriptor: Descriptor) -> AbstractContextManager[Read]:
        """Opens a blob without checking its size and digest."""


class ImageSource:
    """An image that holds a model."""

    def __init__(self, url: str) -> None:
        """Reads the image's manifest.

        Raises:
            PullError: there is no such image, or it does not hold a model.
        """
        reference = parse_reference(url)
        self._store: Store = Layout(reference) if isinstance(reference, LayoutReference) else Registry(reference)
        self.shown = self._store.shown
        self._manifest = self._resolved()
        self.name = (self._manifest.annotations or {}).get(MODEL, "")
        """The model's name; empty if the image does not say."""

    @property
    def total_bytes(self) -> int:
        """Total size of all layers."""
        return sum(layer.size for layer in self._layers)

    @property
    def _layers(self) -> list[Descriptor]:
        return self._manifest.layers or []

    def _resolved(self) -> Document:
        document = parse_document(self._store.document(), self.shown)
        for _ in range(_MAX_INDEXES):
            if document.manifests is None:
                break
            document = parse_document(self._store.document(self._chosen(document.manifests).digest), self.shown)
        if document.manifests is not None or len(document.layers or ()) > _MAX_LAYERS:
            raise UnsafeSourceError(f"{self.shown}: more indexes or layers than an image of a model has")
        return document

    def _chosen(self, manifests: list[Descriptor]) -> Descriptor:
        """Returns this machine's manifest, or else any: models are the same for all platforms."""
        if not manifests:
            raise DamagedError(f"{self.shown}: the index is empty; push the image again")
        mine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        fitting = (each for each in manifests if each.platform and each.platform.architecture == mine)
        return next(fitting, manifests[0])

    def unpack(self, folder: Path, model: str, *, max_bytes: int, on_bytes: Callable[[int], object]) -> None:
        """Writes the model's files into a new folder.

        Args:
            folder: the target, which is created.
            model: the model's new name; also its folder in an image that does not name its model.
            max_bytes: maximum size to download, and of the unpacked layers.
            on_bytes: called with the size of each downloaded piece.

        Raises:
            UnsafeSourceError: an entry leads out of the folder, or a limit is exceeded.
            PullError: the image cannot be read, or has no such model.
            OSError: it cannot be written.
        """
        if self.total_bytes > max_bytes:
            raise UnsafeSourceError(f"{self.shown}: the layers have more than {max_bytes >> 20:,} MiB; see --max-mib")
        folder.mkdir()
        inside = self.name or model
        unpacker = Unpacker(folder, inside, self.shown, max_bytes)
        for layer in self._layers:
            with self._store.blob(layer) as read:
                unpacker.unpack(read, layer, on_bytes)
        if not any(folder.iterdir()):
            found = ", ".join(sorted(unpacker.models)) or "nothing"
            raise UsageError(f"{self.shown}: /models holds {found}, and not {inside}; choose with --name")


def name_of(url: str) -> str:
    """Returns a model's name from its URL, for an image that does not name it."""
    reference = parse_reference(url)
    path = reference.folder if isinstance(reference, LayoutReference) else PurePosixPath(reference.name)
    return path.name
