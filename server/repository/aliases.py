"""Names for versions: a model's `stable` version, its `candidate`, and the `previous` stable one.

They are parameters of config.pbtxt, which Triton passes to its backend and otherwise ignores:

    parameters { key: "stable" value { string_value: "1" } }
"""

from collections.abc import Iterator, Mapping, Sequence

from pixelserve.oip import model_config_pb2 as pb

from ..errors import RepositoryError
from .layout import VERSION, ModelFolder
from .pbtxt import error_at

STABLE = "stable"
"""The version that answers requests without a version."""
CANDIDATE = "candidate"
"""The version that may become stable."""
PREVIOUS = "previous"
"""The previous stable version, for a rollback."""
ALIASES = (STABLE, CANDIDATE, PREVIOUS)


def read_aliases(folder: ModelFolder, config: pb.ModelConfig | None, versions: Sequence[int]) -> dict[str, int]:
    """Returns the versions that a model's config.pbtxt names, by name.

    Args:
        folder: the model's folder, for the message.
        config: its config.pbtxt, or None.
        versions: those on disk.

    Raises:
        RepositoryError: a named version is not a number, or is not on disk.
    """
    for problem in alias_problems(folder, config, versions):
        raise problem
    return {alias: int(text) for alias, text in _written(config)}


def alias_problems(
    folder: ModelFolder, config: pb.ModelConfig | None, versions: Sequence[int]
) -> Iterator[RepositoryError]:
    """Yields what is wrong with each name; see `read_aliases`."""
    for alias, text in _written(config):
        if not VERSION.fullmatch(text) or int(text) not in versions:
            known = ", ".join(map(str, versions))
            problem = f'parameter {alias} is "{text}"; expected one of the versions on disk: {known}'
            yield error_at(folder.config_file, f'parameters["{alias}"]', problem, as_text(alias, max(versions)))


def _written(config: pb.ModelConfig | None) -> list[tuple[str, str]]:
    """Returns the names and their versions as text."""
    parameters = config.parameters if config is not None else {}
    return [(alias, parameters[alias].string_value) for alias in ALIASES if alias in parameters]


def as_text(alias: str, version: int) -> str:
    """Returns the line of config.pbtxt that names a version."""
    return f'parameters {{ key: "{alias}" value {{ string_value: "{version}" }} }}'


def without_aliases(config: pb.ModelConfig | None) -> bytes:
    """Returns a value that is equal for configurations that differ only in aliases."""
    rest = pb.ModelConfig()
    if config is not None:
        rest.CopyFrom(config)
        for alias in ALIASES:
            rest.parameters.pop(alias, None)
    serialized: bytes = rest.SerializeToString(deterministic=True)
    return serialized


def set_aliases(config: pb.ModelConfig, aliases: Mapping[str, int]) -> None:
    """Replaces the names in a configuration's parameters."""
    for alias in ALIASES:
        config.parameters.pop(alias, None)
    for alias, version in aliases.items():
        config.parameters[alias].string_value = str(version)
