"""What ONNX Runtime says of a model whose locale the system lacks, in plain words and with what to do."""

import re

_MISSING = re.compile(r"Failed to construct locale with name:([\w.@-]+):")


def missing_locale(said: str) -> str | None:
    """Returns why a runtime refused a model, if that is a locale; None: there was another reason."""
    if (found := _MISSING.search(said)) is None:
        return None
    name = found[1]
    language, _, charset = name.partition(".")
    install = f"apt-get install locales && localedef -i {language} -f {charset or 'UTF-8'} {name}"
    return (
        f"its StringNormalizer needs the locale {name}, which this system does not have, whatever LANG says; on "
        f"Debian: {install} (docs/models.md#text)"
    )
