"""Finds a version that was exported, and reads it once its file has been held against its card."""

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
    """A version on disk whose file is the one that its card describes."""

    folder: Path
    """The version's folder."""
    card: Card
    """Its evidence."""
    model: OnnxModel
    """Its model, loaded."""
    labels: tuple[str, ...]
    """Its classes' names in index order; empty: labels.txt is missing, or it has no classes."""
    output_kind: OutputKind | None = None
    """What a classifier's output is, as config.pbtxt or the card says; None: neither says it."""
    labelled: str | None = None
    """The output whose classes the labels name, as config.pbtxt says; None: it does not."""
    pictures: PictureSpec | None = None
    """What it takes as pictures, as config.pbtxt says; None: none."""

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.card.name} version {self.folder.resolve().name}"


def find(model: str, repository: Path) -> Path:
    """Returns the folder of the version that `model` means.

    Args:
        model: a version's folder, a model's folder (its highest version), or NAME or NAME:VERSION in the repository.
        repository: the model repository.

    Raises:
        SourceError: there is none.
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
        SourceError: a file is missing or damaged, or the model is not the one that the card describes.
        SamplesError: labels.txt is damaged.
    """
    path, card_path = find_model_file(folder), folder / CARD_FILE
    for file, remedy in (
        (path, "give a version that pixelserve export wrote"),
        (card_path, "without its card there is no evidence to measure again: export the model with pixelserve export"),
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
