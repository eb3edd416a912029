"""Writes a model's version as an image, to a layout or a registry."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelserve.pull.errors import UsageError, WriteError

from .contents import read_contents
from .image import Image, make_image
from .layout import write_layout
from .references import LayoutReference, Reference, parse_reference
from .registry import push


@dataclass(frozen=True)
class Written:
    """A written image."""

    model: str
    """The model's name."""
    version: int
    """The version's number."""
    reference: str
    """The image, with its tag."""
    pinned: str
    """The image, by digest, for use in deployments."""
    digest: str
    """The image's digest."""
    is_verified: bool
    """False if the version has no card, so its hash could not be checked."""
    layer_bytes: int
    """Size of the image's layer."""
    annotations: dict[str, str]
    """The image's annotations."""

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve models image --json`."""
        plain = ("model", "version", "reference", "pinned", "digest", "layer_bytes", "annotations")
        return {name: getattr(self, name) for name in plain}


def write(repository: Path, model: str, version: int, to: str, *, on_wait: Callable[[], object]) -> Written:
    """Verifies a version and writes its image.

    Args:
        repository: the model repository.
        model: the model's name.
        version: the version's number.
        to: oci:DIR[:TAG], or oci://REGISTRY/NAME:TAG.
        on_wait: called if another command is writing to the same layout.

    Raises:
        PullError: it cannot be written; the message says why and what to do.
        KeyboardInterrupt: Ctrl-C or SIGTERM; no image was written.
    """
    reference = _tagged(parse_reference(to), model, version)
    try:
        contents = read_contents(repository, model, version)
        image = make_image(contents)
        if isinstance(reference, LayoutReference):
            write_layout(image, reference.folder, reference.tag or "", on_wait=on_wait)
        else:
            push(image, reference)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        where = error.filename or reference.shown
        raise WriteError(f"{where}: {reason}; no image was written: make room, or give another place") from error
    return _written(contents.model, version, reference, image, is_verified=contents.card is not None)


def _tagged(reference: Reference, model: str, version: int) -> Reference:
    if reference.digest:
        raise UsageError(f"{reference.shown}: a digest is computed, not given; give a tag")
    if reference.tag is None and isinstance(reference, LayoutReference):
        return LayoutReference(reference.folder, f"{model}-{version}", None)
    if reference.tag is None:
        raise UsageError(f"{reference.shown}: an image in a registry needs a tag, such as {reference.shown}:{version}")
    return reference


def _written(model: str, version: int, reference: Reference, image: Image, *, is_verified: bool) -> Written:
    untagged = reference.shown.removesuffix(f":{reference.tag}")
    return Written(
        model,
        version,
        reference.shown,
        f"{untagged}@{image.digest}",
        image.digest,
        is_verified,
        image.layer.size,
        image.annotations,
    )
