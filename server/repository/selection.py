"""Which versions of a model are served: those of its version policy, and the named ones."""

from dataclasses import dataclass

from ..errors import RepositoryError
from .aliases import read_aliases, without_aliases
from .config import Written, select_versions
from .layout import ModelFolder
from .pbtxt import error_at


@dataclass(frozen=True)
class ChosenVersions:
    """The versions of a model to serve."""

    versions: list[int]
    """Those in its version policy or with a name, lowest first."""
    others: list[int]
    """The others on disk."""
    aliases: dict[str, int]
    """Versions by name."""
    loaded_with: bytes
    """config.pbtxt without the names; if it changes, the versions must be loaded again."""


def choose_versions(folder: ModelFolder, config: Written | None) -> ChosenVersions:
    """Returns the versions of a model to serve.

    Args:
        folder: the model's.
        config: its config.pbtxt, or None.

    Raises:
        RepositoryError: there is none, or a named version does not exist.
    """
    versions = folder.versions()
    if not versions:
        problem = f"no version folder; expected {folder.path / '1'} with the model in it"
        raise RepositoryError(problem, path=folder.path)
    aliases = read_aliases(folder, config, versions)
    served = sorted({*select_versions(config, versions), *aliases.values()})
    if not served:
        problem = f"version_policy serves none of the versions on disk: {versions}"
        write = f"version_policy {{ specific {{ versions: [ {', '.join(map(str, versions))} ] }} }}"
        raise error_at(folder.config_file, "version_policy", problem, write)
    others = [version for version in versions if version not in served]
    return ChosenVersions(served, others, aliases, without_aliases(config))
