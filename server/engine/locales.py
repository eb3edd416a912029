"""Explains ONNX Runtime's error for a locale that the system lacks, with the remedy."""

import re

_MISSING = re.compile(r"Failed to construct locale with name:([\w.@-]+):")


def missing_locale(said: str) -> str | None:
    """Returns the error for a missing locale, or None if that is not the reason."""
    if (found := _MISSING.search(said)) is None:
        return None
    name = found[1]
    language, _, charset = name.partition(".")
    install = f"apt-get install locales && localedef -i {language} -f {charset or 'UTF-8'} {name}"
    return (
        f"its StringNormalizer needs the locale {name}, which this system lacks, whatever LANG is; on "
        f"Debian: {install} (docs/models.md#text)"
    )
