"""Moves the names of a model's versions: promotes a candidate to stable, and rolls back.

The names are in config.pbtxt (see `aliases`). Nothing else in the file changes, and it is replaced atomically: a server
that polls the repository sees either the old names or the new ones.
"""

import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from pixelserve.external_data import find_model_file
from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import CONFIG_BYTES, read_text

from ..errors import NotFound, RepositoryError, UnknownName
from ..repository.aliases import CANDIDATE, PREVIOUS, STABLE, as_text, read_aliases, set_aliases
from ..repository.config import model_file_name, read_config, select_versions
from ..repository.layout import ModelFolder, find_model

# A parameter as people and text_format write it: the text before its value, and the quote after it.
_PARAMETER = r"""(\{{\s*key\s*:\s*["']{name}["']\s*[,;]?\s*value\s*:?\s*\{{\s*string_value\s*:\s*["'])[^"'\n]*(["'])"""


@dataclass(frozen=True)
class Move:
    """A change of a model's names."""

    model: str
    """The model's name."""
    before: Mapping[str, int]
    """Versions by name, before."""
    after: Mapping[str, int]
    """Versions by name, after."""


def promote(repository: Path, name: str, version: int | None = None, alias: str = STABLE) -> Move:
    """Names a version; a replaced stable version becomes previous.

    Args:
        repository: folder of models.
        name: the model's.
        version: the version; None: the candidate for `stable`, else the highest on disk.
        alias: `stable` or `candidate`.

    Raises:
        RepositoryError: there is no such model, version or candidate, or its config.pbtxt cannot be changed.
    """
    folder, config, before = _open(repository, name)
    chosen = version or (before.get(CANDIDATE) if alias == STABLE else max(folder.versions()))
    if chosen is None:
        raise RepositoryError(
            f"model {name} has no candidate; say which of its versions is to be stable: "
            f"{', '.join(map(str, folder.versions()))}"
        )
    _check_version(folder, config, chosen)
    after = {**before, alias: chosen}
    if alias == STABLE:
        # Without a stable version, the highest served one answers.
        replaced = before.get(STABLE) or max(select_versions(config, folder.versions()), default=chosen)
        if replaced != chosen:
            after[PREVIOUS] = replaced
    return _move(folder, config, before, after)


def rollback(repository: Path, name: str) -> Move:
    """Restores the previous stable version; the current one becomes previous.

    Raises:
        RepositoryError: there is no such model or previous version, or its config.pbtxt cannot be changed.
    """
    folder, config, before = _open(repository, name)
    if PREVIOUS not in before or STABLE not in before:
        raise RepositoryError(
            f"model {name} has no previous version to go back to; name one: `models promote {name} 1`"
        )
    _check_version(folder, config, before[PREVIOUS])
    return _move(folder, config, before, {**before, STABLE: before[PREVIOUS], PREVIOUS: before[STABLE]})


def _open(repository: Path, name: str) -> tuple[ModelFolder, pb.ModelConfig, dict[str, int]]:
    """Returns a model's folder, its config.pbtxt, and its named versions."""
    try:
        folder = find_model(repository, name)
    except NotFound as error:
        raise UnknownName(f"{repository}: {error}") from error
    config = read_config(folder)
    if config is None:
        raise RepositoryError(
            f"{folder.config_file} is missing, and names of versions stand there; write it first, with what holds "
            f"without it: max_batch_size: 64 dynamic_batching {{ }}"
        )
    return folder, config, read_aliases(folder, config, folder.versions())


def _check_version(folder: ModelFolder, config: pb.ModelConfig, version: int) -> None:
    model = find_model_file(folder.version_path(version), model_file_name(config))
    if not model.is_file():
        known = ", ".join(map(str, folder.versions()))
        raise UnknownName(f"{model} is missing; expected one of the versions on disk: {known}")


def _move(folder: ModelFolder, config: pb.ModelConfig, before: Mapping[str, int], after: Mapping[str, int]) -> Move:
    changed = {alias: version for alias, version in after.items() if before.get(alias) != version}
    if changed:
        wanted = pb.ModelConfig()
        wanted.CopyFrom(config)
        set_aliases(wanted, after)
        # Follow a link to the file itself.
        path = folder.config_file.resolve()
        _replace(path, _edited(path, read_text(path, CONFIG_BYTES), changed, wanted))
    return Move(folder.name, before, after)


def _edited(path: Path, text: str, changed: Mapping[str, int], wanted: pb.ModelConfig) -> str:
    """Returns config.pbtxt's text with other names; everything else, comments included, is unchanged.

    Raises:
        RepositoryError: the names are written in an unknown form.
    """
    for alias, version in changed.items():
        text, found = re.subn(_PARAMETER.format(name=alias), rf"\g<1>{version}\g<2>", text)
        if not found:
            text = f"{text.rstrip()}\n{as_text(alias, version)}\n"
    if text_format.Parse(text, pb.ModelConfig()) != wanted:
        lines = ", ".join(as_text(alias, version) for alias, version in changed.items())
        raise RepositoryError(f"{path}: its parameters are not written as expected; change them by hand to: {lines}")
    return text


def _replace(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        staging.write_text(text, encoding="utf-8")
        shutil.copymode(path, staging)
        staging.replace(path)
    except OSError as error:
        staging.unlink(missing_ok=True)
        raise RepositoryError(f"{path} cannot be written: {error.strerror or error}; it is as it was") from error
