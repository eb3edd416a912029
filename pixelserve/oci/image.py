"""Builds the image of a model's version: an index, one layer, and a manifest and configuration per platform."""

from dataclasses import dataclass
from typing import Any

from .annotations import CREATED, annotations
from .contents import Contents
from .documents import CONFIG, INDEX, MANIFEST, Blob, encoded
from .layer import Layer, make_layer

# A model runs anywhere, but nodes choose a manifest by platform: those with ONNX Runtime wheels.
_ARCHITECTURES = ("amd64", "arm64")


@dataclass(frozen=True)
class Image:
    """An image, ready to be written."""

    index: Blob
    """The document whose digest is the image's."""
    manifests: tuple[Blob, ...]
    """One per platform."""
    configs: tuple[Blob, ...]
    """One per platform."""
    layer: Layer
    """The model's files, shared by all platforms."""
    annotations: dict[str, str]
    """Annotations of the index and each manifest."""

    @property
    def digest(self) -> str:
        """The image's digest."""
        return self.index.digest


def make_image(contents: Contents) -> Image:
    """Returns the image of a version; equal files give equal bytes, anywhere and at any time.

    Raises:
        SourceFailed: a file changed meanwhile.
        OSError: a file cannot be read.
    """
    layer, noted = make_layer(contents.files), annotations(contents)
    configs = tuple(_config(each, layer, noted) for each in _ARCHITECTURES)
    manifests = tuple(_manifest(config, layer, noted) for config in configs)
    listed = [
        manifest.descriptor(platform={"architecture": architecture, "os": "linux"})
        for architecture, manifest in zip(_ARCHITECTURES, manifests, strict=True)
    ]
    index = _document(INDEX, noted, manifests=listed)
    return Image(index, manifests, configs, layer, noted)


def _config(architecture: str, layer: Layer, noted: dict[str, str]) -> Blob:
    created = noted.get(CREATED)
    when = {"created": created} if created else {}
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created_by": "pixelserve models image", **when}],
        **when,
    }
    return Blob(CONFIG, encoded(config))


def _manifest(config: Blob, layer: Layer, noted: dict[str, str]) -> Blob:
    return _document(MANIFEST, noted, config=config.descriptor(), layers=[layer.descriptor()])


def _document(media_type: str, noted: dict[str, str], **parts: Any) -> Blob:
    document = {"schemaVersion": 2, "mediaType": media_type, "annotations": noted, **parts}
    return Blob(media_type, encoded(document))
