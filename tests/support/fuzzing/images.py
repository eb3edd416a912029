"""Model images: each is pulled, or refused with a message and without leftovers."""

import io
import json
import shutil
import tarfile
from pathlib import Path

from pixelserve.oci.documents import INDEX, LAYER, MANIFEST, Blob, encoded
from pixelserve.pull.errors import PullError, WriteError
from pixelserve.pull.mirror import Wanted, mirror

from .mutate import Mutator
from .target import Target

_BLOCK_BYTES = tarfile.BLOCKSIZE
_CHECKSUM = slice(148, 156)
# Places in a header: name, mode, size, type, link, magic, prefix.
_FIELDS = (0, 1, 100, 124, 130, 135, 156, 157, 257, 345)
_VALUES = b"01234567LKxgSVN\x00\x80\xff/. -"


class _ImageTarget(Target):
    """An image in a layout, of which one blob is the input."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / self.name.replace(" ", "-")
        self._folder.mkdir(parents=True)

    def _pull(self, layer: Blob, document: bytes) -> str:
        layout, repository = self._folder / "layout", self._folder / "models"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        manifest = Blob(MANIFEST, document)
        for blob in (layer, manifest):
            (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)
        (layout / "index.json").write_bytes(encoded({"mediaType": INDEX, "manifests": [manifest.descriptor()]}))
        try:
            mirror(Wanted(f"oci:{layout}", repository, name="digits", max_bytes=4 << 20))
            expected = ["digits"]
        except WriteError as error:
            return f"an image was called a fault of the disk: {error}" if "too long" not in str(error) else ""
        except PullError:
            expected = []
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            return f"pulling raised {error!r}"
        left = [path.name for path in repository.iterdir()] if repository.exists() else []
        outside = sorted(path.name for path in self._folder.iterdir() if path.name not in ("layout", "models"))
        shutil.rmtree(repository, ignore_errors=True)
        shutil.rmtree(layout)
        return "" if left == expected and not outside else f"left {left} and {outside}; expected {expected}"


class LayerTarget(_ImageTarget):
    """The layer: a tar stream with other bytes, or with other fields in its headers."""

    name = "image layer"

    def make(self, mutator: Mutator) -> bytes:
        data = bytearray(_layer(mutator.random.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))))
        if mutator.chance(0.4):
            return mutator.octets(bytes(data))
        for _ in range(mutator.times()):
            at = _BLOCK_BYTES * mutator.random.randrange(len(data) // _BLOCK_BYTES)
            header = data[at : at + _BLOCK_BYTES]
            header[mutator.random.choice(_FIELDS)] = mutator.random.choice(_VALUES)
            header[_CHECKSUM] = b" " * 8
            header[_CHECKSUM] = b"%06o\0 " % sum(header)
            data[at : at + _BLOCK_BYTES] = header
        return bytes(data)

    def run(self, data: bytes) -> str:
        layer = Blob(LAYER, data)
        return self._pull(layer, encoded({"mediaType": MANIFEST, "layers": [layer.descriptor()]}))


class ManifestTarget(_ImageTarget):
    """The manifest: other JSON."""

    name = "image manifest"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._layer = Blob(LAYER, _layer(tarfile.PAX_FORMAT))
        good = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [self._layer.descriptor()]}
        self._good = json.loads(encoded({**good, "annotations": {"pixelserve.model": "digits"}}))

    def make(self, mutator: Mutator) -> bytes:
        return mutator.json(self._good)

    def run(self, data: bytes) -> str:
        return self._pull(self._layer, data)


def _layer(tar_format: int) -> bytes:
    files = {"models/digits/1/model.onnx": b"a model" * 90, f"models/digits/1/{'long' * 30}ü": b"x", "etc/passwd": b"y"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        archive.addfile(link)
    return buffer.getvalue()


def image_targets(folder: Path) -> list[Target]:
    """Returns a target for each blob of an image; they work in `folder`."""
    return [kind(folder) for kind in (LayerTarget, ManifestTarget)]
