"""The contents of a model's image: one verified version, its configuration, and the files it names."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixelserve.card import CARD_BYTES, CARD_FILE, GOLDEN_FILE, Card, read_card
from pixelserve.golden import Golden, read_golden
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.pull.errors import DamagedError, SourceRefused, UsageError
from pixelserve.pull.listing import WARMUP_FOLDER, Listing, list_model
from pixelserve.pull.sources import FolderSource
from pixelserve.pull.verify import CONFIG_FILE, parse_config, settle_config, verify_version
from pixelserve.text import CONFIG_BYTES, LABELS_BYTES, TextError, read_bytes, read_lines

from .narrowing import narrowed

ROOT = PurePosixPath("models")
"""The model repository in an image's file system; KServe also expects models there."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Contents:
    """A verified version, ready to be written."""

    model: str
    """The model's name."""
    version: int
    """The version's number."""
    files: dict[PurePosixPath, Path | bytes]
    """By path in the image, the file to copy or the bytes to write."""
    card: Card | None
    """The version's card, or None."""
    card_json: bytes
    """The card's bytes on disk; empty without a card."""
    golden: Golden | None
    """The golden samples, or None."""
    labels: tuple[str, ...]
    """The class labels of the first output with a label file; empty if none has one."""


def read_contents(repository: Path, model: str, version: int) -> Contents:
    """Verifies a version in a model repository, and returns the contents of its image.

    Raises:
        UsageError: the name is invalid, or config.pbtxt names another model.
        SourceRefused: the repository does not have this version.
        DamagedError: the model does not match its card, or no server could load it.
        UnsafeSourceError: a file leads out of the model's folder.
        OSError: a file cannot be read.
    """
    if not _NAME.fullmatch(model):
        raise UsageError(f'model name "{model}": expected letters, digits, ".", "_" and "-", a letter or digit first')
    folder = repository / model
    if not folder.is_dir():
        raise SourceRefused(f"{repository} has no model {model}; give the repository with --model-repository")
    listing = list_model(FolderSource(folder), frozenset({version}), max_bytes=sys.maxsize)
    try:
        model_file = settle_config(folder, model, rename=False)
        verify_version(folder / str(version), model_file, require_card=False)
        return _contents(folder, version, listing, parse_config(folder / CONFIG_FILE))
    except DamagedError as error:
        raise DamagedError(f"{folder}: {error}") from error
    except TextError as error:
        raise DamagedError(f"{folder}: {error}") from error


def _contents(folder: Path, version: int, listing: Listing, config: pb.ModelConfig) -> Contents:
    labels = [output.label_filename for output in config.output if output.label_filename]
    used = {PurePosixPath(name) for name in labels}
    inside = ROOT / folder.name
    taken = (file for file in listing.files if file.path.parts[0] == str(version) or file.path in used)
    files: dict[PurePosixPath, Path | bytes] = {inside / file.path: Path(file.key) for file in taken}
    files |= {inside / path: folder / path for path in _warmup_files(folder, config)}
    if (folder / CONFIG_FILE).is_file():
        original = read_bytes(folder / CONFIG_FILE, CONFIG_BYTES)
        files[inside / CONFIG_FILE] = narrowed(config, original, version)
    card, golden = folder / str(version) / CARD_FILE, folder / str(version) / GOLDEN_FILE
    return Contents(
        folder.name,
        version,
        files,
        card=read_card(card) if card.is_file() else None,
        card_json=read_bytes(card, CARD_BYTES) if card.is_file() else b"",
        golden=read_golden(golden) if golden.is_file() else None,
        labels=read_lines(folder / labels[0], LABELS_BYTES) if labels else (),
    )


def _warmup_files(folder: Path, config: pb.ModelConfig) -> Iterator[PurePosixPath]:
    """Yields the files of model_warmup, which the server looks for in a folder beside the versions."""
    names = {
        tensor.input_data_file
        for warmup in config.model_warmup
        for tensor in warmup.inputs.values()
        if tensor.input_data_file
    }
    for name in sorted(names):
        path = PurePosixPath(WARMUP_FOLDER, name)
        if PurePosixPath(name).name != name or name == ".." or not (folder / path).is_file():
            raise DamagedError(
                f"{CONFIG_FILE} names the file {name} for model_warmup, which is not in {WARMUP_FOLDER}/"
            )
        yield path
