"""Writes a version to a model repository atomically."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelserve.card import CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE, MODEL_FILE, Card
from pixelserve.golden import Golden, write_golden
from pixelserve.golden_picture import GoldenPicture, write_golden_picture

from ..errors import TargetExistsError, UsageError
from ..runtime import OnnxModel
from ..staging import staged
from . import config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True)
class Slot:
    """The place of a new version in a model repository."""

    repository: Path
    """The model repository; created if missing."""
    model: str
    """The model's name."""
    version: int
    """The version's number."""

    @property
    def model_folder(self) -> Path:
        """The model's folder; it exists if the model has other versions."""
        return self.repository / self.model

    @property
    def folder(self) -> Path:
        """The version's folder; it does not exist yet."""
        return self.model_folder / str(self.version)


def choose_slot(repository: Path, model: str, version: int | None) -> Slot:
    """Returns the slot of the requested version number, else of the next free one.

    Raises:
        UsageError: the model's name is not a valid folder name, or the number is below 1.
        TargetExistsError: the version already exists.
    """
    if not _NAME.fullmatch(model):
        raise UsageError(f'model name "{model}": expected letters, digits, ".", "_" and "-", a letter or digit first')
    if version is not None and version < 1:
        raise UsageError(f"--version {version}: expected 1 or more")
    taken = versions(repository / model)
    free = max(taken, default=0) + 1
    if version in taken:
        raise TargetExistsError(
            f"{repository / model / str(version)} already exists and is not overwritten; "
            f"omit --version to write version {free}"
        )
    return Slot(repository, model, version or free)


def versions(model_folder: Path) -> list[int]:
    """Returns a model's version numbers, in no order; empty without a folder."""
    if not model_folder.is_dir():
        return []
    return [int(entry.name) for entry in model_folder.iterdir() if _VERSION.fullmatch(entry.name)]


def check_siblings(slot: Slot, model: OnnxModel, labels: Sequence[str], max_batch_size: int | None = None) -> None:
    """Checks that the model's other versions, if any, have the same tensors, labels and, if given, maximum batch size.

    Raises:
        UsageError: they differ, or the model's folder has no config.pbtxt to compare with.
    """
    if not slot.model_folder.exists():
        return
    path = slot.model_folder / config.CONFIG_FILE
    if not path.is_file():
        raise UsageError(
            f"{slot.model_folder} has no {config.CONFIG_FILE} to compare a new version with; "
            f"write one, or export under another --name"
        )
    config.check_agrees(path, model, labels, max_batch_size)


@dataclass(frozen=True)
class Version:
    """The content of a version folder."""

    onnx: bytes
    """model.onnx."""
    card: Card
    """card.json."""
    golden: Golden | None
    """golden.npz, or None."""
    picture: GoldenPicture | None = None
    """golden-picture.npz, or None."""
    weights: Sequence[Path] = ()
    """External data, to be written beside model.onnx under its current names."""


@dataclass(frozen=True)
class Content:
    """All files of a new version."""

    version: Version
    """The version folder's files."""
    config_text: str
    """config.pbtxt, written if the model is new."""
    labels: Sequence[str]
    """The lines of labels.txt, written if the model is new; empty without labels."""


def publish(slot: Slot, content: Content) -> None:
    """Writes a version, and for a new model its config.pbtxt and labels.txt.

    Everything appears at once under its final name, or nothing if writing fails or is interrupted.

    Raises:
        TargetExistsError: the version was written by another process in the meantime.
    """
    if slot.model_folder.exists():
        with staged(slot.folder) as folder:
            _write_version(folder, content.version)
        return
    with staged(slot.model_folder) as folder:
        (folder / config.CONFIG_FILE).write_text(content.config_text, encoding="utf-8")
        if content.labels:
            (folder / config.LABELS_FILE).write_text("\n".join(content.labels) + "\n", encoding="utf-8")
        (folder / str(slot.version)).mkdir()
        _write_version(folder / str(slot.version), content.version)


def _write_version(folder: Path, version: Version) -> None:
    (folder / MODEL_FILE).write_bytes(version.onnx)
    for weights in version.weights:
        shutil.copyfile(weights, folder / weights.name)
    version.card.write(folder / CARD_FILE)
    if version.golden is not None:
        write_golden(folder / GOLDEN_FILE, version.golden)
    if version.picture is not None:
        write_golden_picture(folder / GOLDEN_PICTURE_FILE, version.picture)
