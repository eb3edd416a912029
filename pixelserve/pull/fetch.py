"""Fetches the listed files, counting every byte."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pixelserve.card import CARD_BYTES, CARD_FILE, MODEL_FILE, CardError, read_card, verify_model_file
from pixelserve.text import TextError, read_bytes

from .errors import SourceFailed
from .listing import Listing, RemoteFile, check_size
from .sources import Source

_CHUNK_BYTES = 1 << 20


def fetch(
    source: Source, listing: Listing, folder: Path, *, present: Path, max_bytes: int, on_bytes: Callable[[int], object]
) -> int:
    """Fetches all files into a new folder; returns the number of bytes fetched.

    A model file is not fetched again if its version exists with the same card and matches it.

    Args:
        source: the source.
        listing: the files to fetch.
        folder: the target, which is empty.
        present: the model's folder in the repository, which need not exist.
        max_bytes: maximum bytes to fetch, whatever the source announced.
        on_bytes: called with the size of each fetched piece.

    Raises:
        UnsafeSourceError: more than `max_bytes` came.
        SourceFailed: a file is shorter or longer than announced.
        PullError: the source cannot be read.
        OSError: it cannot be written.
    """
    came = 0
    # Cards first: they tell which model files exist already.
    for file in sorted(listing.files, key=lambda file: (file.path.name != CARD_FILE, file.path)):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.path.name == MODEL_FILE and _is_present(file, target.parent, present / file.path.parent):
            _reuse(present / file.path, target)
            on_bytes(target.stat().st_size)
            continue
        if source.moved(file.key, target):
            continue
        came += _fetch_file(source, file, target, allowed=max_bytes - came, max_bytes=max_bytes, on_bytes=on_bytes)
    return came


def _fetch_file(
    source: Source,
    file: RemoteFile,
    target: Path,
    *,
    allowed: int,
    max_bytes: int,
    on_bytes: Callable[[int], object],
) -> int:
    came = 0
    # On a case-insensitive disk, a name must not overwrite one that differs only in case.
    with source.opened(file.key) as stream, target.open("xb") as out:
        while chunk := source.read(stream, _CHUNK_BYTES):
            came += len(chunk)
            check_size(source, came + max_bytes - allowed, max_bytes)
            out.write(chunk)
            on_bytes(len(chunk))
    if file.size is not None and came != file.size:
        raise SourceFailed(
            f"{source.shown}: {file.path} has {file.size:,} bytes, and {came:,} came; it was cut off, or is being "
            f"written: try again"
        )
    return came


def _is_present(file: RemoteFile, fetched: Path, present: Path) -> bool:
    """Returns whether a version's model file exists already: with the same card, and matching it."""
    card, model = present / CARD_FILE, present / MODEL_FILE
    if not (fetched / CARD_FILE).is_file() or not card.is_file() or not model.is_file():
        return False
    try:
        known, now = (read_bytes(each, CARD_BYTES) for each in (card, fetched / CARD_FILE))
        if known != now or file.size not in (None, model.stat().st_size):
            return False
        verify_model_file(read_card(card), model)
    except (CardError, TextError):
        return False
    return True


def _reuse(present: Path, target: Path) -> None:
    try:
        os.link(present, target)
    except OSError:
        # Not every file system supports links.
        shutil.copy2(present, target)
