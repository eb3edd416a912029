"""Folders of models that are not as the repository has them: with a configuration or files that a client sent.

RepositoryModelLoad may carry both (Triton's load parameters `config` and `file:…`). They become a folder like any
other, so that nothing else has to know of them: what the client sent, and links to the rest.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf import json_format, text_format

from pixelserve.oip import model_config_pb2 as pb

from ..errors import InvalidRequest, RepositoryError
from .layout import CONFIG_FILE, ModelFolder, find_model, is_plain

# A file lies in the model's folder, a version's, or a folder in that (Triton's layout for weights beside a graph).
_MOST_PARTS = 3


@dataclass(frozen=True)
class Override:
    """What takes the place of a model's files in the repository."""

    config: pb.ModelConfig
    """In place of config.pbtxt."""
    files: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    """In place of all files, by their path in the model's folder; none: these are as in the repository."""


def read_override(config: str | None, files: Mapping[str, bytes]) -> Override | None:
    """Checks what a client sent; returns None where it is nothing.

    Args:
        config: a ModelConfig as JSON; None: none was sent.
        files: contents by path, such as `1/model.onnx`.

    Raises:
        InvalidRequest: the configuration is none or does not come with the files, or a path leads elsewhere.
    """
    if config is None:
        if files:
            raise InvalidRequest('load parameter "file:…" needs "config" beside it: a ModelConfig as JSON')
        return None
    try:
        parsed = json_format.Parse(config, pb.ModelConfig())
    except json_format.ParseError as error:
        raise InvalidRequest(f'load parameter "config": {error}; expected a ModelConfig as JSON') from error
    return Override(parsed, {_checked(name): content for name, content in files.items()})


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    is_known = str(path) == name and 1 <= len(path.parts) <= _MOST_PARTS and path.name != CONFIG_FILE
    if not is_known or not all(is_plain(part) for part in path.parts):
        raise InvalidRequest(f'load parameter "file:{name}": expected a path in the model\'s folder: file:1/model.onnx')
    return path


class Overlays:
    """The folders that were made for overrides. Not for several threads at once."""

    def __init__(self) -> None:
        """Starts out with none."""
        self._folders: dict[str, list[Path]] = {}

    def make(self, repository: Path, name: str, override: Override) -> ModelFolder:
        """Returns a new folder of a model; it is there until `discard`.

        Raises:
            NotFound: no files were sent, and the repository has no such model.
            InvalidRequest: the name is no folder's.
            RepositoryError: the disk does not take it.
        """
        if not is_plain(name):
            raise InvalidRequest(f'model_name "{name}" is not the name of a folder')
        original = None if override.files else find_model(repository, name)
        try:
            root = Path(tempfile.mkdtemp(prefix="pixelserve-"))
            self._folders.setdefault(name, []).append(root)
            folder = root / name
            folder.mkdir()
            _fill(folder, original, override)
        except OSError as error:
            raise RepositoryError(
                f"model {name}: the files of the load request cannot be stored: {error}; make room, or set TMPDIR to a "
                f"folder that can be written"
            ) from error
        return ModelFolder(folder)

    def discard(self, name: str, but: ModelFolder | None = None) -> None:
        """Removes a model's folders that nothing is loaded from any more."""
        kept = [] if but is None else [root for root in self._folders.get(name, []) if but.path.parent == root]
        for root in self._folders.pop(name, []):
            if root not in kept:
                shutil.rmtree(root, ignore_errors=True)
        if kept:
            self._folders[name] = kept

    def close(self) -> None:
        """Removes all folders."""
        for name in list(self._folders):
            self.discard(name)


def _fill(folder: Path, original: ModelFolder | None, override: Override) -> None:
    if original is not None:
        for entry in original.path.iterdir():
            if entry.name != CONFIG_FILE and not entry.name.startswith("."):
                (folder / entry.name).symlink_to(entry.resolve())
    for path, content in override.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / CONFIG_FILE).write_text(text_format.MessageToString(override.config), encoding="utf-8")
