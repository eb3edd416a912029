"""Finds an exported version, and reads it after checking its file against its card."""

from dataclasses import dataclass
from pathlib import Path

from pixelserve.card import CARD_FILE, Card, CardError, read_card, verify_model_file
from pixelserve.external_data import find_model_file
from pixelserve.imaging.spec import PictureSpec
from pixelserve.scores import OutputKind

from ..errors import SourceError
from ..exporting import config, samples
from ..exporting.picture_line import served_pictures
from ..exporting.publish import versions
from ..runtime import OnnxModel


@dataclass(frozen=True)
class Published:
    """A version on disk whose file matches its card."""

    folder: Path
    """The version's folder."""
    card: Card
    """Its evidence."""
    model: OnnxModel
    """Its model, loaded."""
    labels: tuple[str, ...]
    """Class names in index order; empty if labels.txt is missing."""
    output_kind: OutputKind | None = None
    """The kind of a classifier's output, from config.pbtxt or the card, or None."""
    labelled: str | None = None
    """The labelled output, from config.pbtxt, or None."""
    pictures: PictureSpec | None = None
    """Its image preprocessing, from config.pbtxt, or None."""

    @property
    def held_out(self) -> float:
        """The share of the training split that it certainly did not learn, of `hold_out`, a fraction of 1."""
        # Earlier releases held out other samples.
        return (self.card.held_out or 0.0) if self.card.hold_out is not None else 0.0

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.card.name} version {self.folder.resolve().name}"


def find(model: str, repository: Path) -> Path:
    """Returns the folder of the version that `model` refers to.

    Args:
        model: a version's folder, a model's folder (its highest version), or NAME or NAME:VERSION in the repository.
        repository: the model repository.

    Raises:
        SourceError: there is no such version.
    """
    name, _, number = model.partition(":")
    if found := _version_in(Path(model)) or _version_in(repository / name / number):
        return found
    folders = sorted(repository.iterdir()) if repository.is_dir() else []
    known = [f"{folder.name}:{version}" for folder in folders for version in sorted(versions(folder))]
    raise SourceError(
        f"{model}: no such model; give a version's or a model's folder, or NAME or NAME:VERSION of one in "
        f"--model-repository {repository}, which has: {', '.join(known) or 'none'}"
    )


def _version_in(folder: Path) -> Path | None:
    if find_model_file(folder).is_file() or (folder / CARD_FILE).is_file():
        return folder
    numbers = versions(folder)
    return folder / str(max(numbers)) if numbers else None


def read(folder: Path) -> Published:
    """Reads a version's folder.

    Raises:
        SourceError: a file is missing or damaged, or the model does not match its card.
        SamplesError: labels.txt is damaged.
    """
    path, card_path = find_model_file(folder), folder / CARD_FILE
    for file, remedy in (
        (path, "give a version that pixelserve export wrote"),
        (card_path, "without a card there is no evidence to compare with: export the model with pixelserve export"),
    ):
        if not file.is_file():
            raise SourceError(f"{folder}: no {file.name}; {remedy}")
    try:
        card = read_card(card_path)
        verify_model_file(card, path)
    except CardError as error:
        raise SourceError(str(error)) from error
    model = OnnxModel(path, source=str(path))
    model_folder = folder.resolve().parent
    labels = model_folder / config.LABELS_FILE
    names = samples.read_labels(labels) if labels.is_file() else ()
    written = model_folder / config.CONFIG_FILE
    kind = config.read_output_kind(written) or card.output_kind
    labelled = config.read_labelled_output(written)
    pictures = served_pictures(config.read_picture(written)[0], model, labelled, written, asked=False)
    return Published(folder, card, model, names, kind, labelled, pictures)
