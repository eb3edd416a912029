"""Finds files and folders in a repository that are never read."""

import difflib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pixelserve.card import CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE
from pixelserve.external_data import ExternalDataError, external_files, find_model_file

from ..repository.config import Written
from ..repository.layout import CONFIG_FILE, ModelFolder, is_version
from ..repository.pbtxt import as_line
from ..repository.tuned import TUNING_FILE
from ..repository.warmup import WARMUP_FOLDER, warmup_files
from .findings import Finding

LABELS_FILE = "labels.txt"
"""The usual name of a model's label file."""


def stray(path: Path, problem: str, write: str = "") -> Finding:
    """Returns a warning about a file or folder; `write` is the line to add for it, if any."""
    return Finding("warning", path, None, problem, write)


def _hidden(path: Path) -> Finding:
    return stray(path, "hidden, and never looked at; half copied? rename it when it is whole, or remove it")


def _is_of_kubelet(entry: Path) -> bool:
    """Returns whether this belongs to a ConfigMap, Secret or CSI volume, whose mount its removal would break."""
    return entry.name.startswith("..")


def beside_models(repository: Path) -> Iterator[Finding]:
    """Yields what is in a repository but not a model's folder."""
    for entry in _entries(repository):
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif not entry.is_dir():
            yield stray(entry, "no model's folder, and not looked at; move it away")


def beside_versions(folder: ModelFolder, config: Written | None, *, is_known: bool) -> Iterator[Finding]:
    """Yields what is never read in a model's folder; files only if it `is_known` which are used."""
    used = {CONFIG_FILE, TUNING_FILE, *(output.label_filename for output in (config.output if config else ()))}
    for entry in _entries(folder.path):
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif entry.is_dir():
            if entry.name == WARMUP_FOLDER and any(warmup_files(config)):
                continue
            if not is_version(entry.name):
                yield _no_version(entry)
        elif is_known and entry.name not in used:
            yield _no_config(folder, entry)


def _no_version(entry: Path) -> Finding:
    number = entry.name.lstrip("0") if entry.name.isdecimal() else ""
    remedy = f"rename it to {number}" if number else "rename it to a positive number, or move it away"
    return stray(entry, f"no version: a version's folder is a positive number without a leading zero; {remedy}")


def _no_config(folder: ModelFolder, entry: Path) -> Finding:
    if not folder.config_file.exists() and difflib.get_close_matches(entry.name.casefold(), [CONFIG_FILE], cutoff=0.8):
        return stray(entry, f"not looked at; rename it to {CONFIG_FILE}")
    if entry.name == LABELS_FILE:
        return stray(
            entry,
            f"not looked at, since no output in {CONFIG_FILE} names it; name it there",
            f'label_filename: "{LABELS_FILE}"',
        )
    return stray(entry, f"not looked at: no file that {CONFIG_FILE} names; move it away")


def beside_model(version: Path, model_file: str) -> Iterator[Finding]:
    """Yields what is never read in a version's folder."""
    model = find_model_file(version, model_file)
    weights = _files_of(model)
    used = {model_file, model.name, CARD_FILE, GOLDEN_FILE, GOLDEN_PICTURE_FILE, *(weights or ())}
    entries = _entries(version) if model.parent == version else [*_entries(version), *_entries(model.parent)]
    for entry in entries:
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif entry.name in used:
            continue
        elif entry.suffix == ".onnx" and not model.exists():
            problem = f"{model_file} is loaded, and is not there; rename this to it, or name it in {CONFIG_FILE}"
            yield stray(entry, problem, as_line(Written(default_model_filename=entry.name)))
        elif weights is not None:
            yield stray(entry, f"not looked at, and {model_file} does not refer to it; move it away")


def _files_of(model: Path) -> set[str] | None:
    """Returns the names of a model's weight files in the graph's folder, or None if unknown."""
    if not model.is_file():
        return None
    try:
        return {PurePosixPath(name).parts[0] for name in external_files(model)}
    except (OSError, ExternalDataError):
        # Missing or refused; the loader's checks report it.
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not _is_of_kubelet(entry))
    except OSError:
        # The check that needs the folder reports this.
        return []
