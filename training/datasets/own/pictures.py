"""Reads a user's pictures in a network's format, as a server does, within a limit of memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelserve.imaging.decode import MAX_PIXELS, decode_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

from ...errors import DataError
from ...progress import say, tracked
from ..dataset import Array
from .listing import Listed, SplitName, named

MOST_BYTES = 4 << 30
"""Maximum bytes of all pictures' pixels; training holds them about twice."""


@dataclass(frozen=True)
class Pictures:
    """Pictures in a network's format."""

    pixels: Array
    """uint8 [N, H, W, C]."""
    labels: Array
    """The index of each picture's class, integers [N]."""
    splits: Sequence[SplitName | None]
    """The split that each picture's owner put it in; None: none."""
    names: Sequence[str]
    """Each picture's name in messages."""
    sha256: Sequence[str]
    """Each file's hash, in hex."""
    identities: Sequence[str]
    """What the data set's hash covers beside the file."""

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.labels)


def check_memory(source: object, count: int, spec: PictureSpec) -> None:
    """Checks before anything is decoded that the pictures fit into memory.

    Raises:
        DataError: they exceed `MOST_BYTES`.
    """
    needed = count * spec.nbytes
    if needed <= MOST_BYTES:
        return
    side = int((MOST_BYTES / count / spec.channels) ** 0.5)
    raise DataError(
        f"--images {source}: {count:,} pictures of {spec.height} × {spec.width} × {spec.channels} take "
        f"{needed / 1e9:,.1f} GB of memory, at most {MOST_BYTES / 1e9:,.1f} GB are read; choose a smaller --size "
        f"({side} fits), or fewer pictures"
    )


def read(source: object, listed: Sequence[Listed], spec: PictureSpec, *, skip_broken: bool) -> Pictures:
    """Reads listed pictures.

    Args:
        source: the folder or file that lists them, for messages.
        listed: the pictures.
        spec: the network's pictures.
        skip_broken: whether to skip unreadable pictures.

    Raises:
        DataError: they take too much memory, or a picture cannot be read.
    """
    check_memory(source, len(listed), spec)
    pixels = np.empty((len(listed), *spec.shape), np.uint8)
    hashes: list[str] = []
    whole: list[Listed] = []
    broken, is_forbidden = [], False
    for picture in tracked(listed, "reading pictures"):
        try:
            content = picture.path.read_bytes()
            pixels[len(whole)] = prepare(decode_file(content, MAX_PIXELS), spec)
        except ImageError as error:
            broken.append(f"{picture.path} ({error})")
        except OSError as error:
            broken.append(f"{picture.path} ({error.strerror})")
            is_forbidden |= isinstance(error, PermissionError)
        else:
            whole.append(picture)
            hashes.append(hashlib.sha256(content).hexdigest())
    if broken:
        _tell(broken, len(listed), skip_broken=skip_broken, is_forbidden=is_forbidden)
    return Pictures(
        pixels[: len(whole)],
        np.array([picture.label for picture in whole], np.int64),
        [picture.split for picture in whole],
        [str(picture.path) for picture in whole],
        hashes,
        [picture.identity for picture in whole],
    )


def _tell(broken: Sequence[str], count: int, *, skip_broken: bool, is_forbidden: bool) -> None:
    if not skip_broken:
        rights = " (check the permissions)" if is_forbidden else ""
        raise DataError(
            f"{len(broken):,} of {count:,} pictures cannot be read: {named(broken)}; repair{rights} or remove them, "
            f"or skip them with --skip-broken"
        )
    say(f"skipped {len(broken):,} of {count:,} pictures, which cannot be read: {named(broken)}")
