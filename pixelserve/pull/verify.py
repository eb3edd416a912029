"""Checks fetched files against their evidence and against a server's requirements."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from pixelserve.card import (
    CARD_FILE,
    GOLDEN_FILE,
    GOLDEN_PICTURE_FILE,
    MODEL_FILE,
    CardError,
    read_card,
    verify_model_file,
)
from pixelserve.external_data import ExternalDataError, external_files, find_model_file
from pixelserve.golden import read_golden
from pixelserve.golden_picture import read_golden_picture
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import CONFIG_BYTES, TextError, read_text

from .errors import DamagedError, UsageError

CONFIG_FILE = "config.pbtxt"


@dataclass(frozen=True)
class Evidence:
    """The evidence of a fetched version."""

    sha256: str | None
    """SHA-256 of its model file in hex, verified against its card; None without a card."""
    golden_samples: int
    """Number of golden samples that a server will replay."""

    @property
    def summary(self) -> str:
        """The same in words."""
        if self.sha256 is None:
            return f"unverified: no {CARD_FILE}"
        samples = f"{self.golden_samples} golden samples" if self.golden_samples else f"no {GOLDEN_FILE}"
        return f"SHA-256 {self.sha256[:12]}… as its card says, {samples}"


def settle_config(folder: Path, name: str, *, rename: bool) -> str:
    """Checks a model's config.pbtxt, if it exists; returns the name of the model file in its version folders.

    Args:
        folder: the fetched files.
        name: the model's new name.
        rename: whether to change another name in config.pbtxt, which rewrites the file, instead of refusing it.

    Raises:
        DamagedError: it cannot be parsed, or a file it names is missing.
        UsageError: it names another model.
    """
    path = folder / CONFIG_FILE
    config = parse_config(path)
    if config.name not in ("", name):
        if not rename:
            raise UsageError(f"{CONFIG_FILE} names the model {config.name}, the folder {name}; say which with --name")
        config.name = name
        path.write_text(text_format.MessageToString(config), encoding="utf-8")
    for output in config.output:
        labels = output.label_filename
        if labels and not (_is_plain(labels) and (folder / labels).is_file()):
            raise DamagedError(f"{CONFIG_FILE} names the label file {labels}, which the source does not have beside it")
    model_file = config.default_model_filename or MODEL_FILE
    if not _is_plain(model_file):
        raise DamagedError(f"{CONFIG_FILE}: default_model_filename {model_file} is not a file in the version folder")
    return model_file


def parse_config(path: Path) -> pb.ModelConfig:
    """Returns a config.pbtxt; an empty one if the file is missing.

    Raises:
        DamagedError: it cannot be parsed.
    """
    try:
        return text_format.Parse(read_text(path, CONFIG_BYTES), pb.ModelConfig())
    except FileNotFoundError:
        return pb.ModelConfig()
    except (text_format.ParseError, TextError) as error:
        raise DamagedError(f"{CONFIG_FILE}: {error}; expected Triton's ModelConfig as protobuf text") from error


def _is_plain(file_name: str) -> bool:
    return Path(file_name).name == file_name and file_name != ".."


def verify_version(folder: Path, model_file: str, *, require_card: bool) -> Evidence:
    """Checks that a fetched version has its model file, that it matches the card, and that golden samples are readable.

    Raises:
        DamagedError: a check failed, or there is no card and one is required.
    """
    version, model = f"version {folder.name}", find_model_file(folder, model_file)
    if not model.is_file():
        raise DamagedError(f"{version} has no {model_file}; look at the source")
    try:
        external_files(model)
    except ExternalDataError as error:
        raise DamagedError(f"{version}: {model_file}: {error}") from error
    if not (folder / CARD_FILE).is_file():
        if require_card:
            raise DamagedError(f"{version} has no {CARD_FILE}, and --require-card is on; export it with its evidence")
        return Evidence(None, 0)
    try:
        card = read_card(folder / CARD_FILE)
        verify_model_file(card, model)
        golden, picture = folder / GOLDEN_FILE, folder / GOLDEN_PICTURE_FILE
        if card.picture is not None and picture.is_file():
            read_golden_picture(picture)
        return Evidence(card.sha256, read_golden(golden).samples if golden.is_file() else 0)
    except CardError as error:
        # The message must not name the temporary folder, which will be gone.
        raise DamagedError(f"{version}: {str(error).replace(f'{folder}/', '')}") from error
