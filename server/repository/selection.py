"""Which of a model's versions are served: those of its version policy, and those that have a name."""

from dataclasses import dataclass

from ..errors import RepositoryError
from .aliases import read_aliases, without_aliases
from .config import Written, select_versions
from .layout import ModelFolder
from .pbtxt import error_at


@dataclass(frozen=True)
class ChosenVersions:
    """Which versions of a model are to be served."""

    versions: list[int]
    """Those that its version policy serves or that have a name, lowest first."""
    others: list[int]
    """The others on disk."""
    aliases: dict[str, int]
    """Versions by name."""
    loaded_with: bytes
    """What config.pbtxt says beside the names: with another, the versions are to be loaded anew."""


def choose_versions(folder: ModelFolder, config: Written | None) -> ChosenVersions:
    """Returns which versions of a model are to be served.

    Args:
        folder: the model's.
        config: what its config.pbtxt says; None: it has none.

    Raises:
        RepositoryError: there is none, or a name's version is not there.
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
