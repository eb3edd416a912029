"""Names for versions: what a model's `stable` version is, its `candidate`, and what was stable `previous`ly.

They are parameters of config.pbtxt, which Triton hands to its backend and otherwise ignores:

    parameters { key: "stable" value { string_value: "1" } }
"""

from collections.abc import Mapping, Sequence

from pixelserve.oip import model_config_pb2 as pb

from .layout import VERSION, ModelFolder
from .pbtxt import error_at

STABLE = "stable"
"""The version that answers requests which name none."""
CANDIDATE = "candidate"
"""The version that may become stable."""
PREVIOUS = "previous"
"""The version that was stable before, and can be again."""
ALIASES = (STABLE, CANDIDATE, PREVIOUS)


def read_aliases(folder: ModelFolder, config: pb.ModelConfig | None, versions: Sequence[int]) -> dict[str, int]:
    """Returns the versions that a model's config.pbtxt gives names to, by name.

    Args:
        folder: the model's folder, for the message.
        config: its config.pbtxt; None: it has none.
        versions: those on disk.

    Raises:
        RepositoryError: a name's version is no number, or is not on disk.
    """
    return {
        alias: _version(folder, alias, config.parameters[alias].string_value, versions)
        for alias in ALIASES
        if config is not None and alias in config.parameters
    }


def _version(folder: ModelFolder, alias: str, text: str, versions: Sequence[int]) -> int:
    if VERSION.fullmatch(text) and int(text) in versions:
        return int(text)
    problem = f'parameter {alias} is "{text}"; expected one of the versions on disk: {", ".join(map(str, versions))}'
    raise error_at(folder.config_file, f'parameters["{alias}"]', problem, as_text(alias, max(versions)))


def as_text(alias: str, version: int) -> str:
    """Returns the line of config.pbtxt that gives a version a name."""
    return f'parameters {{ key: "{alias}" value {{ string_value: "{version}" }} }}'


def without_aliases(config: pb.ModelConfig | None) -> bytes:
    """Returns a value that is the same for two configurations which differ in nothing but aliases."""
    rest = pb.ModelConfig()
    if config is not None:
        rest.CopyFrom(config)
        for alias in ALIASES:
            rest.parameters.pop(alias, None)
    serialized: bytes = rest.SerializeToString(deterministic=True)
    return serialized


def set_aliases(config: pb.ModelConfig, aliases: Mapping[str, int]) -> None:
    """Writes the names into a configuration's parameters, in place of those that are there."""
    for alias in ALIASES:
        config.parameters.pop(alias, None)
    for alias, version in aliases.items():
        config.parameters[alias].string_value = str(version)
