"""Temporary model folders with a configuration or files that a client sent.

RepositoryModelLoad may carry both (Triton's load parameters `config` and `file:…`). They become an ordinary folder of
what the client sent and links to the rest, so no other code has to know about them.
"""

import shutil
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf import text_format

from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import CONFIG_BYTES

from ..errors import InvalidRequest, RepositoryError
from .layout import CONFIG_FILE, ModelFolder, find_model, is_plain
from .temporary import TemporaryFolder

# A file lies in the model's folder, a version's, or a folder in that (Triton's layout for weights beside a graph).
_MOST_PARTS = 3
_MOST_FILES = 1000
# A folder of a configuration and links takes little, but not nothing.
_MOST_FOLDERS = 1000


@dataclass(frozen=True)
class Override:
    """Replaces files of a model in the repository."""

    config: pb.ModelConfig
    """Replaces config.pbtxt."""
    files: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    """Replace all files, by path in the model's folder; empty: keep those of the repository."""


def read_override(config: str | None, files: Mapping[str, bytes]) -> Override | None:
    """Checks what a client sent; returns None if that is nothing.

    Args:
        config: a ModelConfig as JSON, or None.
        files: contents by path, such as `1/model.onnx`.

    Raises:
        InvalidRequest: the configuration is invalid, too large or missing beside files, or a path leads out of the
            model's folder.
    """
    if config is None:
        if files:
            raise InvalidRequest('load parameter "file:…" needs "config" beside it: a ModelConfig as JSON')
        return None
    if len(files) > _MOST_FILES:
        raise InvalidRequest(f'{len(files):,} load parameters "file:…"; at most {_MOST_FILES:,} are accepted')
    if len(config) > CONFIG_BYTES:
        raise InvalidRequest(
            f'load parameter "config" has {len(config):,} characters; at most {CONFIG_BYTES:,} are accepted'
        )
    if not config.lstrip().startswith("{"):
        # protobuf takes an empty JSON list for an empty message.
        raise InvalidRequest(
            f'load parameter "config" is not a JSON object: expected a ModelConfig, received {config[:40]!r}'
        )
    # Few clients send one, and the parser takes memory.
    from google.protobuf import json_format

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
    """The folders made for overrides. Thread-safe.

    Args:
        max_bytes: maximum bytes of files kept at once.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Guards the accounting only: a hung disk delays only the model whose files it does not take.
        self._lock = threading.Lock()
        self._root: TemporaryFolder | None = None
        self._made = 0
        # What each takes, by model.
        self._bytes: dict[str, dict[ModelFolder, int]] = {}

    def make(self, repository: Path, name: str, override: Override) -> ModelFolder:
        """Returns a new folder of a model, which exists until `keep` omits it.

        Raises:
            NotFound: no files were sent, and the repository has no such model.
            InvalidRequest: the name cannot be a folder's.
            RepositoryError: too much is kept, or the files cannot be written.
        """
        if not is_plain(name):
            raise InvalidRequest(f'model_name "{name}" is not the name of a folder')
        original = None if override.files else find_model(repository, name)
        try:
            folder = self._new_folder(name, sum(map(len, override.files.values())))
            try:
                folder.path.mkdir(parents=True)
                _fill(folder.path, original, override)
            except BaseException:
                self._remove(name, (folder,))
                raise
        except OSError as error:
            raise RepositoryError(
                f"model {name}: the files of the load request cannot be stored: {error}; make room, or set TMPDIR to a "
                f"folder that can be written"
            ) from error
        return folder

    def _new_folder(self, name: str, size: int) -> ModelFolder:
        """Returns a path that does not exist yet, and counts its bytes before they are written."""
        with self._lock:
            self._check_room(name, size)
            self._root = self._root or TemporaryFolder.make()
            self._made += 1
            folder = ModelFolder(self._root.path / str(self._made) / name)
            self._bytes.setdefault(name, {})[folder] = size
            return folder

    def _check_room(self, name: str, size: int) -> None:
        kept = [each for folders in self._bytes.values() for each in folders.values()]
        if size + sum(kept) > self._max_bytes:
            raise RepositoryError(
                f"model {name}: the files of the load request have {size:,} bytes, and {sum(kept):,} are kept of "
                f"others; at most {self._max_bytes:,} are (--max-load-files-mib); unload one of those"
            )
        if len(kept) >= _MOST_FOLDERS:
            raise RepositoryError(
                f"model {name}: {len(kept):,} models are loaded with a configuration or files of the request, and no "
                f"more are; unload one"
            )

    def keep(self, name: str, used: Collection[ModelFolder] = ()) -> None:
        """Removes a model's folders except those in `used`."""
        with self._lock:
            unused = [folder for folder in self._bytes.get(name, ()) if folder not in used]
        self._remove(name, unused)

    def _remove(self, name: str, folders: Iterable[ModelFolder]) -> None:
        for folder in folders:
            shutil.rmtree(folder.path.parent, ignore_errors=True)
        with self._lock:
            kept = self._bytes.get(name, {})
            for folder in folders:
                kept.pop(folder, None)
            if not kept:
                self._bytes.pop(name, None)

    def close(self) -> None:
        """Removes all folders."""
        with self._lock:
            self._bytes.clear()
            root, self._root = self._root, None
        if root is not None:
            root.remove()


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
