"""The pictures that a model takes, and files that become its tensors as they would in a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pixelserve.imaging.declaration import Input, parse, undeclared
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.words import DeclarationError

from .errors import WorkloadError

if TYPE_CHECKING:
    from pixelserve.client import ModelVersion


def taken_by(version: "ModelVersion", dtype: str) -> PictureSpec | None:
    """Returns the pictures that a version takes; None: it takes none.

    Args:
        version: what the server says of it.
        dtype: NumPy's name of its first input's type.

    Raises:
        WorkloadError: the server declares them in words that this release does not know.
    """
    if len(version.inputs) != 1:
        return None
    taken = Input(version.inputs[0].shape[1:], dtype)
    try:
        # A server of an earlier release declares none.
        return parse(version.picture, taken) if version.picture else undeclared(taken)
    except DeclarationError as error:
        raise WorkloadError(
            f"{version.name} takes pictures as {version.picture!r}: {error.problem}; use the server's release of "
            f"pixelserve, or --method infer with --shape"
        ) from error


def prepared(path: Path, spec: PictureSpec) -> npt.NDArray[Any]:
    """Reads a picture as a model takes it: an array of `spec.dtype` and `spec.shape`.

    Raises:
        WorkloadError: the file is not a picture.
        ModuleNotFoundError: Pillow is not installed.
    """
    from pixelserve.imaging.decode import MAX_PIXELS, decode_file
    from pixelserve.imaging.errors import ImageError
    from pixelserve.imaging.prepare import prepare

    try:
        return prepare(decode_file(path.read_bytes(), MAX_PIXELS), spec)
    except (ImageError, OSError) as error:
        raise WorkloadError(f"{path} cannot be read as a picture: {error}") from error
