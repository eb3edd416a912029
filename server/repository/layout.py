"""The layout of a model repository: <model>/config.pbtxt, <model>/<version>/model.onnx, as in Triton."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, RepositoryError

CONFIG_FILE = "config.pbtxt"
DEFAULT_MODEL_FILE = "model.onnx"
# A folder's name cannot be longer, and Python refuses to read thousands of digits.
VERSION = re.compile(r"[1-9][0-9]{0,17}")
"""A version's number as text, without leading zeros: Triton's rule for version folders."""


_NO_MODEL = f"holds no version folder and no {CONFIG_FILE}: not a model"
# The longest name that file systems take.
_MAX_NAME_BYTES = 255


def is_plain(name: str) -> bool:
    """Returns whether a name stays inside its folder."""
    if "\0" in name or len(name.encode(errors="replace")) > _MAX_NAME_BYTES:
        return False
    return Path(name).name == name and name not in ("", "..")


def is_version(name: str) -> bool:
    """Returns whether this is the name of a version folder."""
    return VERSION.fullmatch(name) is not None


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder in the repository."""

    path: Path
    """The folder."""

    @property
    def name(self) -> str:
        """The model's name: the folder's."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The model's configuration; it may be absent."""
        return self.path / CONFIG_FILE

    def versions(self) -> list[int]:
        """Returns the versions on disk, lowest first."""
        return sorted(int(each.name) for each in self.path.iterdir() if is_version(each.name) and each.is_dir())

    def version_path(self, version: int) -> Path:
        """Returns the folder of one version."""
        return self.path / str(version)


@dataclass(frozen=True)
class PassedOver:
    """A folder in a repository that is not a model."""

    path: Path
    """The folder."""
    reason: str
    """Why not, and what to do if it is one."""
    may_be_model: bool = False
    """True if it cannot be read now: versions loaded from it keep serving."""


@dataclass(frozen=True)
class Survey:
    """The folders of a repository, without hidden ones, which are unfinished work."""

    models: list[ModelFolder]
    """The models', by name."""
    passed_over: list[PassedOver]
    """All others, which file systems, archives and desktops leave behind."""


def survey(repository: Path) -> Survey:
    """Returns which folders of a repository are models.

    Raises:
        RepositoryError: the repository is not a readable folder, or it holds no model.
    """
    found = Survey([], [])
    try:
        entries = sorted(entry for entry in repository.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise RepositoryError(
            f"model repository {repository}: {error.strerror or error}; "
            f"give a folder that holds <model>/<version>/{DEFAULT_MODEL_FILE} with --model-repository"
        ) from error
    for entry in entries:
        match _taken_for(entry):
            case ModelFolder() as folder:
                found.models.append(folder)
            case PassedOver() as other:
                found.passed_over.append(other)
    if not found.models:
        others = "".join(f"; {each.path.name} {each.reason}" for each in found.passed_over[:3])
        raise RepositoryError(
            f"model repository {repository} holds no model; "
            f"expected <model>/<version>/{DEFAULT_MODEL_FILE} in it{others}{_single(repository)}"
        )
    return found


def _single(folder: Path) -> str:
    """Returns a hint if a folder is itself a model or a version; else nothing."""
    is_own = (folder / DEFAULT_MODEL_FILE).exists() or any(is_version(each.name) for each in folder.iterdir())
    return "; to serve the folder itself as one model, name it: --model-name NAME" if is_own else ""


def find_model(repository: Path, name: str) -> ModelFolder:
    """Returns one model's folder.

    Raises:
        NotFound: the repository has no such model.
    """
    # A name that leads out of the repository is not a model's.
    taken_for = _taken_for(repository / name) if is_plain(name) and not name.startswith(".") else None
    match taken_for:
        case ModelFolder():
            return taken_for
        case PassedOver():
            raise NotFound(f'the repository has no model "{name}": the folder {taken_for.reason}')
        case _:
            raise NotFound(f'the repository has no model "{name}"; expected a folder of that name with a version in it')


def _taken_for(path: Path) -> ModelFolder | PassedOver | None:
    """Returns what a path is; None if it is not a folder."""
    try:
        if not path.is_dir():
            return None
        entries = list(path.iterdir())
        is_model = any(entry.name == CONFIG_FILE or (is_version(entry.name) and entry.is_dir()) for entry in entries)
    except OSError as error:
        # ext4 makes it at the root of every volume, for root only; it is never a model.
        if path.name == "lost+found":
            return PassedOver(path, _NO_MODEL)
        reason = f"cannot be read: {error.strerror or error}; make it readable, or move it away"
        return PassedOver(path, reason, may_be_model=True)
    # No message or metric could name it.
    if path.name.encode(errors="replace").decode() != path.name:
        return PassedOver(path, "has a name that is not UTF-8: rename it, or move it away")
    if not is_model:
        return PassedOver(path, _NO_MODEL)
    return ModelFolder(path)
