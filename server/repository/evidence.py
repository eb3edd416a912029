"""What lies beside a version's model and says what it must compute: read once, and held for sessions opened later."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pixelserve.card import (
    CARD_FILE,
    GOLDEN_FILE,
    GOLDEN_PICTURE_FILE,
    Card,
    CardError,
    Golden,
    read_card,
    read_golden,
    verify_model_file,
)
from pixelserve.golden_picture import GoldenPicture, read_golden_picture

from ..engine.tensors import Array
from ..errors import RepositoryError, unreadable

# They stay in memory as long as the version does.
_MOST_SAMPLES = 10
_MOST_SAMPLE_BYTES = 2**21

Print = Mapping[str, tuple[int, int, int]]
"""What tells files from others that take their places: inode, size and time of change, by path."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a version's origin and correctness."""

    card: Card | None
    """Its card; None: it has none."""
    verified: bool
    """Whether its file is the one that the card describes and it reproduced its golden outputs."""
    summary: str
    """The same for people, in one sentence."""
    samples: Array | None = field(default=None, compare=False)
    """A few golden inputs, [N, ...] as the model takes them; None: it has none, or several inputs."""


@dataclass(frozen=True)
class VersionFiles:
    """The files of one version, as they were when it was loaded."""

    version: Path
    """The version's folder."""
    model: Path
    """Its model file."""
    card: Card | None
    """Its card, which is the model file's; None: it has none."""
    golden: Golden | None
    """Its golden samples; None: it has none."""
    opened: Print
    """Of the model file and those beside it, from before the first session was opened."""
    picture: GoldenPicture | None = None
    """Its golden picture; None: it has none."""

    def check_same(self) -> None:
        """Checks that the model file and its weights are still those that were loaded.

        Raises:
            RepositoryError: they are others, which are another load's business.
        """
        if self.card is not None:
            with about(self.model):
                verify_model_file(self.card, self.model)
        elif self.opened != print_of(self.model):
            problem = "this or a file beside it is not the one that was loaded; load the model again"
            raise RepositoryError(problem, path=self.model)


def samples_of(golden: Golden) -> Array | None:
    """Returns a copy of a few golden inputs, [N, ...]; None: the model has several inputs, or text, or large ones."""
    (tensor, *others) = golden.inputs.values()
    most = min(_MOST_SAMPLES, _MOST_SAMPLE_BYTES // max(tensor[:1].nbytes, 1))
    return None if others or not most or tensor.dtype == object else tensor[:most].copy()


def print_of(model: Path) -> Print:
    """Returns what tells a model file, and those beside and below it that may hold weights, from others."""
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
        opened: what told its files from others before a session was opened.
        require_card: whether a version without a card is refused.

    Raises:
        RepositoryError: a file is damaged or missing, or the model's is not the one of the card.
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
    """Makes a fault of a file of the evidence the repository's."""
    try:
        yield
    except CardError as problem:
        raise RepositoryError(str(problem).removeprefix(f"{path}: "), path=path) from problem
    except OSError as error:
        raise unreadable(path, error) from error
