"""The evidence beside a version's model: what it must compute. Read once, and kept for sessions opened later."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pixelserve.card import CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE, Card, CardError, read_card, verify_model_file
from pixelserve.golden import Golden, read_golden
from pixelserve.golden_picture import GoldenPicture, read_golden_picture

from ..engine.tensors import Array
from ..errors import RepositoryError, unreadable

# They stay in memory as long as the version does.
_MOST_SAMPLES = 10
_MOST_SAMPLE_BYTES = 2**21

Print = Mapping[str, tuple[int, int, int]]
"""Tells files from their replacements: inode, size and modification time, by path."""


@dataclass(frozen=True)
class Evidence:
    """A version's origin, and what was verified of it."""

    card: Card | None
    """Its card, or None."""
    verified: bool
    """Whether its file is the card's and reproduced its golden outputs."""
    summary: str
    """The same in one sentence, for people."""
    samples: Array | None = field(default=None, compare=False)
    """A few golden inputs, [N, ...] as the model takes them; None if it has none, or several inputs."""


@dataclass(frozen=True)
class VersionFiles:
    """The files of one version as they were at load."""

    version: Path
    """The version's folder."""
    model: Path
    """Its model file."""
    card: Card | None
    """Its card, which matches the model file, or None."""
    golden: Golden | None
    """Its golden samples, or None."""
    opened: Print
    """Of the model file and those beside it, taken before the first session was opened."""
    picture: GoldenPicture | None = None
    """Its golden picture, or None."""

    def check_same(self) -> None:
        """Checks that the model file and its weights are still those that were loaded.

        Raises:
            RepositoryError: they were replaced; another load takes them.
        """
        if self.card is not None:
            with about(self.model):
                verify_model_file(self.card, self.model)
        elif self.opened != print_of(self.model):
            problem = "this or a file beside it is not the one that was loaded; load the model again"
            raise RepositoryError(problem, path=self.model)


def samples_of(golden: Golden) -> Array | None:
    """Returns a copy of a few golden inputs, [N, ...]; None if the model has several inputs, text or large inputs."""
    (tensor, *others) = golden.inputs.values()
    most = min(_MOST_SAMPLES, _MOST_SAMPLE_BYTES // max(tensor[:1].nbytes, 1))
    return None if others or not most or tensor.dtype == object else tensor[:most].copy()


def print_of(model: Path) -> Print:
    """Returns the print of a model file and of files beside and below it that may hold its weights."""
    found: dict[str, tuple[int, int, int]] = {}
    for folder, _, names in os.walk(model.parent):
        for path in (Path(folder, name) for name in names):
            try:
                status = path.stat()
            except OSError:
                # It leads nowhere. What needs it says so.
                continue
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def read_files(version: Path, model: Path, opened: Print, *, require_card: bool) -> VersionFiles:
    """Reads a version's card, golden samples and golden picture.

    Args:
        version: the version's folder.
        model: its model file.
        opened: the print of its files from before a session was opened.
        require_card: whether a version without a card is refused.

    Raises:
        RepositoryError: a file is damaged or missing, or the card is of another model file.
    """
    if not (version / CARD_FILE).is_file():
        if require_card:
            problem = f"no {CARD_FILE}, and --require-card is on; export the model with `pixelserve export`"
            raise RepositoryError(problem, path=version)
        return VersionFiles(version, model, None, None, opened)
    with about(version / CARD_FILE):
        card = read_card(version / CARD_FILE)
    with about(model):
        verify_model_file(card, model)
    golden = picture = None
    if (version / GOLDEN_FILE).is_file():
        with about(version / GOLDEN_FILE):
            golden = read_golden(version / GOLDEN_FILE)
    # Without a declaration in the card, nothing says what it was prepared for.
    if card.picture is not None and (version / GOLDEN_PICTURE_FILE).is_file():
        with about(version / GOLDEN_PICTURE_FILE):
            picture = read_golden_picture(version / GOLDEN_PICTURE_FILE)
    return VersionFiles(version, model, card, golden, opened, picture)


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Turns errors in evidence files into RepositoryError."""
    try:
        yield
    except CardError as problem:
        raise RepositoryError(str(problem).removeprefix(f"{path}: "), path=path) from problem
    except OSError as error:
        raise unreadable(path, error) from error
