"""Where things lie in a model repository: <model>/config.pbtxt, <model>/<version>/model.onnx, as in Triton."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, RepositoryError

CONFIG_FILE = "config.pbtxt"
DEFAULT_MODEL_FILE = "model.onnx"
# A folder's name cannot be longer, and Python refuses to read thousands of digits.
VERSION = re.compile(r"[1-9][0-9]{0,17}")
"""A version's number as text, without leading zeros: what Triton takes a folder for a version by."""


def is_plain(name: str) -> bool:
    """Returns whether a name is that of something in a folder, and no way out of it."""
    return Path(name).name == name and name not in ("", "..")


def is_version(name: str) -> bool:
    """Returns whether a folder of this name is a version's."""
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
        names = (entry.name for entry in self.path.iterdir() if entry.is_dir())
        return sorted(int(name) for name in names if is_version(name))

    def version_path(self, version: int) -> Path:
        """Returns the folder of one version."""
        return self.path / str(version)


def find_models(repository: Path) -> list[ModelFolder]:
    """Returns the model folders of a repository by name; hidden folders are somebody's half-finished work.

    Raises:
        RepositoryError: the repository is not a folder that can be read, or it holds no model.
    """
    try:
        entries = sorted(entry for entry in repository.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise RepositoryError(
            f"model repository {repository}: {error.strerror or error}; "
            f"give a folder that holds <model>/<version>/{DEFAULT_MODEL_FILE} with --model-repository"
        ) from error
    if not entries:
        raise RepositoryError(
            f"model repository {repository} holds no model; expected <model>/<version>/{DEFAULT_MODEL_FILE} in it"
        )
    return [ModelFolder(entry) for entry in entries]


def find_model(repository: Path, name: str) -> ModelFolder:
    """Returns one model's folder.

    Raises:
        NotFound: the repository has none of that name.
    """
    path = repository / name
    # A name that leads out of the repository is no model's.
    if not is_plain(name) or name.startswith(".") or not path.is_dir():
        raise NotFound(f'the repository has no model "{name}"; expected a folder of that name with a version in it')
    return ModelFolder(path)
