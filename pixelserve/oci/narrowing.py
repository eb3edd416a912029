"""Reduces a model's config.pbtxt to one version, so that an image with only that version serves it."""

from google.protobuf import text_format

from pixelserve.oip import model_config_pb2 as pb

ALIASES = ("stable", "candidate", "previous")
"""Parameters of config.pbtxt that name a version; a test holds them against the server's."""


def narrowed(config: pb.ModelConfig, original: bytes, version: int) -> bytes:
    """Returns the text of a config.pbtxt under which a repository with this one version serves it.

    A version policy may name other versions or serve none, and so may aliases: the server refuses names of versions
    that are not on disk. The default policy serves the only version there is, under its own number.

    Args:
        config: the parsed file.
        original: the file's bytes, returned unchanged if nothing in it names another version.
        version: the version's number.
    """
    others = [
        alias
        for alias in ALIASES
        if alias in config.parameters and config.parameters[alias].string_value != str(version)
    ]
    if not others and not config.HasField("version_policy"):
        return original
    rest = pb.ModelConfig()
    rest.CopyFrom(config)
    rest.ClearField("version_policy")
    for alias in others:
        rest.parameters.pop(alias)
    text: str = text_format.MessageToString(rest)
    return text.encode()
